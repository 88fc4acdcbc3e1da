"""When two messages count as the same."""

import json

import pytest

from caesura.server.clients.history import chain, digest, identity, same_history

CALL = {
    "id": "call-1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Berlin", "days": 2}'},
}
ANSWER = {"role": "assistant", "content": None, "tool_calls": [CALL]}


def said(content: object, role: str = "assistant", **more: object) -> dict[str, object]:
    return {"role": role, "content": content, **more}


def text(content: str, kind: str = "text", **more: object) -> dict[str, object]:
    return {"type": kind, "text": content, **more}


def with_call(**changes: object) -> dict[str, object]:
    return {**ANSWER, "tool_calls": [{**CALL, "function": {**CALL["function"], **changes}}]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ANSWER, {**ANSWER, "refusal": None, "audio": None, "annotations": []}),
        (ANSWER, {**ANSWER, "content": ""}),
        (ANSWER, with_call(arguments='{"days":2,"city":"Berlin"}')),
        (ANSWER, with_call(arguments={"city": "Berlin", "days": 2})),
        (
            {"role": "assistant", "content": "\n\nIt rains.\n"},
            {"role": "assistant", "content": "It rains."},
        ),
        (
            {"role": "user", "content": "Hello"},
            {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        ),
        (ANSWER, {**ANSWER, "provider_specific_fields": {"reasoning": None}}),
        (ANSWER, {**ANSWER, "function_call": {"name": "x"}, "tool_call_id": "not a result"}),
        (ANSWER, {**ANSWER, "tool_calls": [{"index": 0, "extra_content": {}, **CALL}]}),
        (ANSWER, {name: value for name, value in ANSWER.items() if name != "content"}),
        (ANSWER, {**ANSWER, "content": []}),
        (ANSWER, {**ANSWER, "content": [text("")]}),
        (ANSWER, {**ANSWER, "content": [text("\n")]}),
        (with_call(arguments=""), with_call(arguments="{}")),
        (with_call(arguments=None), with_call(arguments={})),
        (said(""), said(None)),
        (said("Hi."), said([text("Hi.\n", "output_text", annotations=[], logprobs=None)])),
        (said("No."), said([{"type": "refusal", "refusal": "No."}])),
        (said("Hi.", tool_calls=[]), said("Hi.", tool_calls=None)),
        (said("Hi.", "user"), said([text("Hi.", "input_text")], "user")),
        (said("Hi.", "user"), said("Hi.", "user", cache_control={"type": "ephemeral"}, id="m1")),
        (
            said([text("A."), text("B.")], "system"),
            said([text("A."), text("B.", cache_control={"type": "ephemeral"})], "system"),
        ),
        (
            said([{"type": "image_url", "image_url": {"url": "u"}}], "user"),
            said([{"type": "image_url", "image_url": {"url": "u"}, "cache_control": {}}], "user"),
        ),
        (
            said("x-anthropic-billing-header: cch=aaaa;\nYou are kind.", "system"),
            said("x-anthropic-billing-header: cch=bbbb;\nYou are kind.", "system"),
        ),
        (
            said([text("x-anthropic-billing-header: cch=aaaa;"), text("Be kind.")], "system"),
            said("Be kind.", "system"),
        ),
        (
            said("12 degrees", "tool", tool_call_id="call-1"),
            said([text("12 degrees")], "tool", tool_call_id="call-1", is_error=False),
        ),
    ],
)
def test_what_a_client_may_write_differently(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ANSWER, with_call(arguments='{"city": "Paris", "days": 2}')),
        (ANSWER, with_call(name="get_time")),
        (ANSWER, {**ANSWER, "tool_calls": [{**CALL, "id": "call-2"}]}),
        (ANSWER, {**ANSWER, "tool_calls": [CALL, CALL]}),
        (ANSWER, {**ANSWER, "content": "Let me see."}),
        ({"role": "user", "content": "Hello"}, {"role": "user", "content": "Hello "}),
        ({"role": "user", "content": "Hello"}, {"role": "system", "content": "Hello"}),
        ({"role": "user", "content": "Hello"}, {"role": "user", "content": "Hello", "name": "A"}),
        (with_call(arguments="{"), with_call(arguments="{ ")),
        (with_call(arguments="[" * 5000), with_call(arguments="[" * 5001)),
        (with_call(arguments='{"x": "\\ud800"}'), with_call(arguments='{"x": "\\ud801"}')),
        (said("Hi.", "user"), said("Hi.", "user", task="search")),
        (said("12", "tool", tool_call_id="a"), said("12", "tool", tool_call_id="b")),
        (said("Hi.", "developer"), said("Hi.", "developer", tools=[{"type": "function"}])),
        (said([text("A."), text("B.")], "user"), said([text("B."), text("A.")], "user")),
        (said("Hi.", "user"), said([text("Hi."), {"type": "image_url"}], "user")),
        (
            said("x-anthropic-billing-header: cch=aaaa;", "user"),
            said("x-anthropic-billing-header: cch=bbbb;", "user"),
        ),
    ],
)
def test_what_a_client_has_edited(one: dict[str, object], other: dict[str, object]) -> None:
    assert digest(one).body != digest(other).body


def test_reasoning_may_be_left_out_but_not_changed() -> None:
    kept = digest({**ANSWER, "reasoning": "Berlin is a city."})
    assert digest(ANSWER).may_be(kept)
    assert digest({**ANSWER, "reasoning_content": "Berlin is a city."}).may_be(kept)
    assert not digest({**ANSWER, "reasoning": "Berlin is a lake."}).may_be(kept)


@pytest.mark.parametrize("kept", ["\nBerlin is a city.\n", "Berlin is a city."])
@pytest.mark.parametrize("sent", [" Berlin is a city.", "", "\n", None])
def test_the_white_space_around_reasoning_does_not_count(kept: str, sent: str | None) -> None:
    remembered = digest({**ANSWER, "reasoning": kept})
    assert digest({**ANSWER, "reasoning": sent}).may_be(remembered)


def test_a_digest_leaves_the_message_as_it_is() -> None:
    before = json.dumps(ANSWER)
    digest(ANSWER)
    assert json.dumps(ANSWER) == before


def test_a_key_depends_on_all_messages_before_it_and_on_the_tools() -> None:
    hello, bye = (digest({"role": "user", "content": text}) for text in ("Hello", "Bye"))
    keys = chain(identity("model", ["tool"]), [hello, bye])
    assert len(keys) == len(set(keys)) == 3
    assert chain(identity("model", ["tool"]), [hello])[-1] == keys[1]
    assert chain(identity("model", []), [hello])[-1] != keys[1]
    assert chain(identity("model", ["tool"]), [bye, hello])[-1] != keys[2]


def test_histories_of_different_length_differ() -> None:
    hello = digest({"role": "user", "content": "Hello"})
    assert same_history([hello], [hello])
    assert not same_history([hello], [hello, hello])
