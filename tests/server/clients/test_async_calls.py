"""What a model that was not trained for CML reads of calls whose results come later."""

from typing import Any

from caesura.server.clients.async_calls import RUNNING, TOLD, described, with_running

LATE = frozenset({"look", "shop__buy"})
USER = {"role": "user", "content": "And now?"}


def calls(*ids: str, name: str = "look") -> dict[str, Any]:
    function = {"name": name, "arguments": "{}"}
    made = [{"id": call_id, "type": "function", "function": function} for call_id in ids]
    return {"role": "assistant", "content": None, "tool_calls": made}


def result(call_id: str, content: str = "7") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def running(call_id: str) -> dict[str, Any]:
    return result(call_id, RUNNING)


def test_a_call_that_has_its_result_is_left_alone() -> None:
    messages = [USER, calls("a", "b"), result("b"), result("a"), USER]
    assert with_running(messages, LATE) == messages
    assert with_running(messages[:2], LATE) == messages[:2], "nothing follows it yet"


def test_a_result_that_has_not_come_has_a_word_in_its_place() -> None:
    messages = [calls("a", "b"), USER, result("a"), calls("c"), result("b")]
    shown = with_running(messages, LATE)
    assert shown == [
        *(calls("a", "b"), running("a"), running("b"), USER, result("a"), calls("c")),
        *(result("b"), running("c")),
    ]
    # What was shown once stays as it was, whatever comes.
    assert with_running([*messages, result("c"), USER], LATE)[:7] == shown[:7]


def test_beside_a_result_that_is_there_the_others_run() -> None:
    assert with_running([calls("a", "b"), result("b")], LATE) == [
        *(calls("a", "b"), result("b"), running("a"))
    ]


def test_other_tools_are_as_they_were() -> None:
    messages = [calls("a", name="buy"), USER]
    assert with_running(messages, LATE) == messages
    assert with_running([calls("a", name="shop__buy"), USER], LATE)[1] == running("a")


def test_a_result_that_comes_twice_is_shown_once() -> None:
    messages = [calls("a"), result("a"), USER, result("a"), result("a", "8")]
    assert with_running(messages, LATE) == [calls("a"), result("a"), USER, result("a", "8")]


def test_the_description_says_so() -> None:
    def tool(name: str, **more: Any) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name, **more}}

    tools = [tool("look", description="Look."), tool("shop__buy"), tool("other", description="x")]
    assert described(tools, LATE) == [
        tool("look", description=f"Look. {TOLD}"),
        tool("shop__buy", description=TOLD),
        tools[2],
    ]
    assert tools[0] == tool("look", description="Look.")
    assert described(None, LATE) is None
