"""The events of a streamed chat completion."""

import json

from caesura.server.clients.streams import ChatStream


class Listener:
    """What a stream told."""

    def __init__(self) -> None:
        self.messages: list[dict[str, object]] = []
        self.stream = ChatStream(self.messages.append, lambda: {"continuation": "transcript"})

    def passed(self, **chunk: object) -> dict[str, object]:
        event = self.stream.passed(f"data: {json.dumps(chunk)}\n\n")
        assert event.endswith("\n\n")
        return json.loads(event.removeprefix("data: "))

    def delta(self, finish: str | None = None, **delta: object) -> dict[str, object]:
        return self.passed(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])


def call_delta(index: int, **parts: object) -> list[dict[str, object]]:
    return [{"index": index, **parts}]


def test_deltas_add_up_to_the_message_before_its_end_is_passed_on() -> None:
    listener = Listener()
    listener.delta(role="assistant", content="")
    listener.delta(reasoning="Hm. ")
    listener.delta(content="Let me ")
    listener.delta(content="see.")
    listener.delta(tool_calls=call_delta(0, id="call-1", function={"name": "get_weather"}))
    listener.delta(tool_calls=call_delta(0, function={"arguments": '{"city": '}))
    listener.delta(tool_calls=call_delta(0, function={"arguments": '"Berlin"}'}))
    assert not listener.messages
    listener.delta(finish="tool_calls")
    (message,) = listener.messages
    assert message == {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning": "Hm. ",
        "tool_calls": [
            {
                "id": "call-1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Berlin"}'},
            }
        ],
    }


def test_the_final_usage_has_the_report_and_nothing_else_changes() -> None:
    listener = Listener()
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    running = {"choices": [{"index": 0, "delta": {"content": "é"}}], "usage": usage}
    assert listener.passed(**running) == running
    final = listener.passed(choices=[], usage=usage)
    assert final["usage"] == {**usage, "caesura": {"continuation": "transcript"}}


def test_what_is_no_chunk_passes_as_it_is() -> None:
    listener = Listener()
    for event in ("data: [DONE]\n\n", ": keep-alive\n\n", 'data: {"error": {"code": 400}}\n\n'):
        assert listener.stream.passed(event) == event
    assert not listener.messages
