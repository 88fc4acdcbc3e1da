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
    ],
)
def test_what_a_client_has_edited(one: dict[str, object], other: dict[str, object]) -> None:
    assert digest(one).body != digest(other).body


def test_reasoning_may_be_left_out_but_not_changed() -> None:
    kept = digest({**ANSWER, "reasoning": "Berlin is a city."})
    assert digest(ANSWER).may_be(kept)
    assert digest({**ANSWER, "reasoning_content": "Berlin is a city."}).may_be(kept)
    assert not digest({**ANSWER, "reasoning": "Berlin is a lake."}).may_be(kept)


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
