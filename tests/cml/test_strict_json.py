"""The arguments of calls are read by one strict reader, in CML and in a model's own format."""

import json
import math
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caesura.cml.body import Invocation, read_body
from caesura.cml.faults import ErrorKind, ProtocolError
from caesura.cml.frames import JsonValue, Limits
from caesura.cml.strict_json import MOST_LEVELS, UnsoundJson, read_json
from caesura.tools.call import CallEnding
from caesura.tools.executor import parse_arguments
from caesura.tools.failure import InvalidArguments
from support.cml.streams import json_objects, json_values

UNSOUND = {
    "nan": ('{"x": NaN}', "NaN is not JSON"),
    "infinity": ('{"x": [-Infinity]}', "-Infinity is not JSON"),
    "infinite_float": ('{"x": 1e999}', "too large"),
    "infinite_integer": (f'{{"x": {"9" * 310}}}', "too large"),
    "negative": (f'{{"x": -{"9" * 310}}}', "too large"),
    "beyond_pythons_digits": (f'{{"x": {"1" * 5000}}}', "too large"),
    "beyond_all_digits": (f'{{"x": {"1" * 60_000}}}', "too large"),
    "surrogate": (r'{"x": "\ud800"}', "Unicode"),
    "surrogate_in_a_name": (r'{"\udfff": 1}', "Unicode"),
    "raw_surrogate": ('{"x": ["\ud800"]}', "Unicode"),
    "surrogates_in_the_wrong_order": (r'{"x": "\ude00\ud83d"}', "Unicode"),
    "name_twice": ('{"x": 1, "x": 1}', "given twice"),
    "name_twice_spelled_otherwise": (r'{"x": [{"a": 1, "\u0061": 2}]}', "given twice"),
    "too_deep": ('{"x": ' + "[" * MOST_LEVELS + "]" * MOST_LEVELS + "}", "nested deeper"),
    "far_too_deep": ('{"x": ' + "[" * 30_000 + "]" * 30_000 + "}", "nested deeper"),
    "deep_without_an_end": ('{"x":' * 10_000, "nested deeper"),
    "control_character": ('{"x": "a\nb"}', "control character"),
    "trailing_comma": ('{"x": 1,}', "at character"),
    "two_values": ('{"x": 1} {}', "at character"),
    "no_end": ('{"x": "', "at character"),
    "no_quotes": ("{x: 1}", "at character"),
}
SOUND = {
    "deepest": '{"x": ' + "[" * (MOST_LEVELS - 1) + "]" * (MOST_LEVELS - 1) + "}",
    "many_beside_each_other": '{"x": [' + "[], {}, " * MOST_LEVELS + "0]}",
    "largest_integer": f'{{"x": {int(1.7e308)}}}',
    "largest_float": '{"x": 1.7976931348623157e308}',
    "smallest": '{"x": [5e-324, 1e-999, -0.0, -0]}',
    "surrogates": r'{"x": "\ud83d\ude00"}',
    "brackets_in_a_text": '{"x": "' + "[{" * 1000 + r'\"[\\"}',
    "empty_names": '{"": {"": 1}, "x": {"": 2}}',
    "null_character": r'{"x": "\u0000"}',
}
# Texts that are close to JSON.
characters = st.sampled_from([*'[]{}",:\\ue19.-+tn ', "\ud800", r"\ud83d", "NaN", "1e99", '"x":'])
texts = st.lists(characters, max_size=30).map("".join) | st.text()


def in_cml(arguments: str) -> JsonValue:
    """Arguments that are read; what the model is told if they are not."""
    read = read_body(f'{{"name": "f", "arguments": {arguments}}}', Limits().nesting)
    if isinstance(read, Invocation):
        return read.arguments
    assert isinstance(read, ProtocolError)
    assert read.kind in (ErrorKind.MALFORMED_JSON, ErrorKind.MALFORMED_BODY)
    json.loads(read.interrupt.value.encode())
    return read.message


def in_its_own_format(arguments: str) -> JsonValue:
    try:
        return parse_arguments(arguments)
    except InvalidArguments as error:
        told = error
    assert told.ending is CallEnding.INVALID
    str(told).encode()
    return str(told)


@pytest.mark.parametrize("read", [in_cml, in_its_own_format])
@pytest.mark.parametrize(("text", "reason"), UNSOUND.values(), ids=UNSOUND)
def test_what_readers_could_take_for_different_values_is_refused(read, text, reason) -> None:
    told = read(text)
    assert isinstance(told, str)
    assert reason in told
    assert len(told) < 200


@pytest.mark.parametrize("read", [in_cml, in_its_own_format])
@pytest.mark.parametrize("text", SOUND.values(), ids=SOUND)
def test_what_is_sound_is_read(read, text: str) -> None:
    assert repr(read(text)) == repr(json.loads(text))  # an integer is none of equal floats


@pytest.mark.parametrize("read", [in_cml, in_its_own_format])
@given(json_objects)
def test_whatever_is_written_is_read(read, arguments: dict[str, JsonValue]) -> None:
    for is_ascii in (True, False):
        assert read(json.dumps(arguments, ensure_ascii=is_ascii)) == arguments


@given(texts)
@example(r'"\"')
@example('{"x": 1e308, "y": [' * 70)
def test_any_text_is_a_sound_value_or_unsound(text: str) -> None:
    try:
        value = read_json(text)
    except UnsoundJson as error:
        str(error).encode()
        return
    assert value == json.loads(text)
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    assert levels(value) <= MOST_LEVELS
    assert all(map(math.isfinite, map(float, numbers(value))))


@given(st.dictionaries(st.text(max_size=3), texts | json_values.map(json.dumps), max_size=3))
def test_both_formats_read_the_same(members: dict[str, str]) -> None:
    text = "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in members.items()) + "}"
    read, own = in_cml(text), in_its_own_format(text)
    if isinstance(own, dict):
        assert read == own
    elif "}" not in text[:-1]:  # else they may end before the body does
        assert isinstance(read, str)


@pytest.mark.parametrize(
    "unit",
    ["[", "[]", "{", '"', '\\"', '"\\"', "\\", "1", "-", "1e", '{"', '"x":', '"a",', "\ud800"],
)
@pytest.mark.parametrize("start", ["", '{"x": "', '{"x": [', '{"x": 1.'])
def test_a_long_text_is_answered(start: str, unit: str) -> None:
    """In minutes, if the time were not linear."""
    text = start + unit * (2**20 // len(unit))
    with pytest.raises(UnsoundJson):
        read_json(text)


def test_it_is_said_where_a_text_is_wrong() -> None:
    with pytest.raises(UnsoundJson, match=r"at character 7$"):
        read_json("[1, 2, x]")


def test_a_text_of_quotes_and_backslashes_is_passed_over_once() -> None:
    """With backtracking each quotation mark would be tried with all that follow it."""
    assert read_json(json.dumps('\\"' * 2**17)) == '\\"' * 2**17


def levels(value: JsonValue) -> int:
    inner = inner_of(value)
    return 0 if inner is None else 1 + max(map(levels, inner), default=0)


def numbers(value: JsonValue) -> list[int | float]:
    if isinstance(value, int | float):
        return [value]
    return [number for inner in inner_of(value) or () for number in numbers(inner)]


def inner_of(value: JsonValue) -> Iterable[JsonValue] | None:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else None
