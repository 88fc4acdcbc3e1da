"""A run in the format of Responses: items and events, or one response."""

from typing import Any

from caesura.server.answers.chat_run import ending_error
from caesura.server.answers.run_reader import (
    Called,
    OutputDone,
    ReasoningAdded,
    Returned,
    RunEnded,
    Step,
    TextAdded,
)
from caesura.session.records import SessionEnding

Json = dict[str, Any]

# What items of a kind have beside their content.
_MORE: dict[str, Json] = {"message": {"role": "assistant"}, "reasoning": {"summary": []}}


class ResponseRun:
    """One response, from the steps of its session.

    Args:
        session_id: the session.
        model: its name, as the client knows it.
        created_seconds: wall-clock time.
        said: fields of the response that repeat the request.
        show_calls: show calls and their results, as items.
    """

    def __init__(
        self, session_id: str, model: str, created_seconds: float, said: Json, *, show_calls: bool
    ) -> None:
        self._hex = session_id.removeprefix("sess_")
        self._show_calls = show_calls
        self._sequence = 0
        self._output: list[Json] = []
        self._open: Json | None = None  # the item that is being written, the last of `_output`
        self.response: Json = {
            "id": f"resp_{self._hex}",
            "object": "response",
            "created_at": created_seconds,
            "model": model,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "output": self._output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None,
            "caesura": {"session_id": session_id},
            **said,
        }

    def opening(self) -> list[Json]:
        """The first events."""
        return [self._response_event("created"), self._response_event("in_progress")]

    def take(self, step: Step) -> list[Json]:
        """The events of a step; the last event is `ended`, after those of the end."""
        match step:
            case TextAdded():
                return self._written("message", "output_text", step.text)
            case ReasoningAdded():
                return self._written("reasoning", "reasoning_text", step.text)
            case OutputDone() if not step.continues:
                return self._closed()
            case RunEnded():  # perhaps behind an output that was to go on
                return self._closed()
            case Called() if self._show_calls:
                return self._called(step)
            case Returned() if self._show_calls:
                return self._returned(step)
        return []

    def ended(self, step: RunEnded, usage: Json) -> Json:
        """The run has ended: the last event."""
        error = ending_error(step)
        kind = status = "incomplete" if step.cut else "completed"
        if error is not None:
            cancelled = step.ending is SessionEnding.CANCELLED
            kind, status = "failed", "cancelled" if cancelled else "failed"
            self.response["error"] = {"code": "server_error", "message": error.detail}
        elif step.cut:
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        self.response |= {"status": status, "usage": usage}
        return self._response_event(kind)

    def stopped(self, message: str) -> Json:
        """The stream ends before its run: the last event."""
        return self._event("error", code="server_error", message=message, param=None)

    # Items

    def _written(self, kind: str, part: str, text: str) -> list[Json]:
        events: list[Json] = []
        if self._open is not None and self._open["type"] != kind:
            events += self._closed()
        if self._open is None:
            events += self._opened(kind, part)
        assert self._open is not None
        self._open["content"][0]["text"] += text
        events.append(self._part_event(f"{part}.delta", delta=text, **_logprobs(part)))
        return events

    def _opened(self, kind: str, part: str) -> list[Json]:
        item: Json = {"id": self._item_id(kind), "type": kind, "status": "in_progress"}
        item |= _MORE[kind]
        added = self._event(
            "output_item.added", output_index=len(self._output), item={**item, "content": []}
        )
        content: Json = {"type": part, "text": ""}
        if part == "output_text":
            content["annotations"] = []
        self._open = {**item, "content": [content]}
        self._output.append(self._open)
        return [added, self._part_event("content_part.added", part=dict(content))]

    def _closed(self) -> list[Json]:
        """Complete the item that is being written, if there is one."""
        item = self._open
        if item is None:
            return []
        (content,) = item["content"]
        part, text = content["type"], content["text"]
        item["status"] = "completed"
        events = [
            self._part_event(f"{part}.done", text=text, **_logprobs(part)),
            self._part_event("content_part.done", part=dict(content)),
            self._item_done(item),
        ]
        self._open = None
        return events

    def _called(self, call: Called) -> list[Json]:
        closed = self._closed()
        item: Json = {
            "id": self._item_id("function_call"),
            "type": "function_call",
            "call_id": call.call_id,
            "name": call.name,
            "arguments": "",
            "status": "in_progress",
        }
        place = {"item_id": item["id"], "output_index": len(self._output)}
        events = [
            self._event("output_item.added", output_index=len(self._output), item=dict(item)),
            self._event("function_call_arguments.delta", **place, delta=call.arguments),
            self._event(
                "function_call_arguments.done", **place, name=call.name, arguments=call.arguments
            ),
        ]
        item |= {"arguments": call.arguments, "status": "completed"}
        self._output.append(item)
        return [*closed, *events, self._item_done(item)]

    def _returned(self, result: Returned) -> list[Json]:
        closed = self._closed()
        item: Json = {
            "id": self._item_id("function_call_output"),
            "type": "function_call_output",
            "call_id": result.call_id,
            "output": result.content,
            "status": "completed",
        }
        added = self._event("output_item.added", output_index=len(self._output), item=dict(item))
        self._output.append(item)
        return [*closed, added, self._item_done(item)]

    def _item_id(self, kind: str) -> str:
        prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}.get(kind, "fco")
        return f"{prefix}_{self._hex}_{len(self._output)}"

    # Events

    def _item_done(self, item: Json) -> Json:
        return self._event(
            "output_item.done", output_index=self._output.index(item), item=dict(item)
        )

    def _part_event(self, kind: str, **fields: Any) -> Json:
        assert self._open is not None
        return self._event(
            kind,
            item_id=self._open["id"],
            output_index=len(self._output) - 1,
            content_index=0,
            **fields,
        )

    def _response_event(self, kind: str) -> Json:
        return self._event(kind, response={**self.response, "output": list(self._output)})

    def _event(self, kind: str, **fields: Any) -> Json:
        number = self._sequence
        self._sequence += 1
        name = kind if kind == "error" else f"response.{kind}"
        return {"type": name, "sequence_number": number, **fields}


def _logprobs(part: str) -> Json:
    """What the events of text must have; there are none."""
    return {"logprobs": []} if part == "output_text" else {}


def response_usage(input_tokens: int, output_tokens: int) -> Json:
    """Tokens of a run. Each is counted once, however many turns have read it."""
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }
