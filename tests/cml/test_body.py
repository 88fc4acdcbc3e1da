import json

import pytest
from hypothesis import given

from caesura.cml import ErrorKind, KnownTools, ProtocolError
from caesura.cml.body import Invocation, read_body
from support.cml.streams import json_objects, names, streams


@given(names, json_objects)
def test_a_tool_and_its_arguments_are_read(name: str, arguments: dict) -> None:
    body = json.dumps({"name": name, "arguments": arguments})
    assert read_body(body, nesting=64) == Invocation(name, arguments)


def test_a_tool_without_arguments_needs_none() -> None:
    assert read_body(' {"name": "f"}\n', nesting=2) == Invocation("f", {})


@pytest.mark.parametrize(
    "body",
    [
        *("", "a1", "{", "{'name': 'f'}", '{"name": "f"} {}', '{"name": "f",}'),
        '{"name": "f", "arguments": {"x": NaN}}',
        '{"name": "f", "arguments": {"x": 1e999}}',
        '{"name": "f", "arguments": {"x": "\\ud800"}}',
        '{"name": "f", "name": "g"}',
        '{"name": "f", "arguments": {"x": ' + "9" * 5000 + "}}",
        '{"name": "f", "arguments": {"x": ' + "[" * 64 + "]" * 64 + "}}",
        "[" * 100_000,
        '{"a":' * 30_000,
    ],
)
def test_what_is_not_sound_json_is_malformed(body: str) -> None:
    error = read_body(body, nesting=64)
    assert isinstance(error, ProtocolError)
    assert error.kind is ErrorKind.MALFORMED_JSON
    assert len(error.message) < 200


@pytest.mark.parametrize(
    "body",
    [
        *("1", "[]", "null", '"f"', "{}", '{"arguments": {}}', '{"name": 1}', '{"name": ""}'),
        '{"name": "f", "arguments": []}',
        '{"name": "f", "arguments": null}',
        '{"name": "f", "parameters": {}}',
    ],
)
def test_json_that_is_no_call_is_told_so(body: str) -> None:
    error = read_body(body, nesting=64)
    assert isinstance(error, ProtocolError)
    assert error.kind is ErrorKind.MALFORMED_BODY


@given(streams)
def test_any_text_has_an_answer(text: str) -> None:
    assert isinstance(read_body(text, nesting=64), Invocation | ProtocolError)


def test_tools_are_checked_by_name_and_by_arguments() -> None:
    def objection(name: str, arguments: dict) -> str | None:
        return None if "city" in arguments else f"{name} needs a city."

    tools = KnownTools({"weather", "alarm"}, objection)
    assert tools.check(Invocation("weather", {"city": "Oslo"})) is None
    assert tools.check(Invocation("weather", {})) == ProtocolError(
        ErrorKind.INVALID_ARGUMENTS, "weather needs a city."
    )
    assert tools.check(Invocation("wether", {})) == ProtocolError(
        ErrorKind.UNKNOWN_TOOL, 'There is no tool "wether". Tools: alarm, weather.'
    )
    assert KnownTools({"alarm"}).check(Invocation("alarm", {"x": 1})) is None
