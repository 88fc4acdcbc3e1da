"""A run in the format of Chat Completions: chunks, or one completion."""

from typing import Any

from caesura.server.answers.run_reader import (
    Called,
    OutputDone,
    ReasoningAdded,
    Returned,
    RunEnded,
    Step,
    TextAdded,
)
from caesura.server.errors import ApiError, error_body
from caesura.session.records import SessionEnding

# Texts of one run's turns, which the client reads as one answer.
BETWEEN_TURNS = "\n\n"

Json = dict[str, Any]


def ending_error(ended: RunEnded) -> ApiError | None:
    """Why a run has no answer; None if it has one."""
    if ended.ending in (SessionEnding.COMPLETED, SessionEnding.LIMIT):
        return None
    if ended.ending is SessionEnding.FAILED:
        return ApiError(500, ended.error or "the session failed", code="session_failed")
    return ApiError(409, f"the session was {ended.ending}", code=f"session_{ended.ending}")


class ChatRun:
    """One answer of Chat Completions, from the steps of its session.

    Args:
        session_id: the session.
        model: its name, as the client knows it.
        created_seconds: wall-clock time.
        show_calls: show calls and their results.
    """

    def __init__(
        self, session_id: str, model: str, created_seconds: float, *, show_calls: bool
    ) -> None:
        self._session_id = session_id
        self._head: Json = {
            "id": f"chatcmpl-{session_id.removeprefix('sess_')}",
            "created": int(created_seconds),
            "model": model,
        }
        self._show_calls = show_calls
        self._text = ""
        self._turn_begins = True
        self._reasoning = ""
        self._calls: dict[str, Json] = {}
        self._finish_reason: str | None = None

    def opening(self) -> Json:
        """The first chunk."""
        shown = {"session_id": self._session_id}
        return self._chunk({"role": "assistant", "content": ""}, caesura=shown)

    def take(self, step: Step) -> list[Json]:
        """The chunks of a step."""
        match step:
            case TextAdded():
                return [self._chunk({"content": self._added(step.text)})]
            case ReasoningAdded():
                self._reasoning += step.text
                return [self._chunk({"reasoning": step.text})]
            case OutputDone():
                self._turn_begins = not step.continues
            case Called() if self._show_calls:
                return [self._called(step)]
            case Returned() if self._show_calls:
                return [self._returned(step)]
            case RunEnded():
                self._finish_reason = "length" if step.cut else "stop"
                if ending_error(step) is None:
                    return [self._chunk({}, finish_reason=self._finish_reason)]
        return []

    def usage_chunk(self, usage: Json) -> Json:
        """The last chunk, for those who asked for usage."""
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def completion(self, usage: Json) -> Json:
        """The whole answer, once the run has ended.

        Calls are in `caesura` and not in `tool_calls`, where clients look for what they have
        to run.
        """
        message: Json = {"role": "assistant", "content": self._text}
        if self._reasoning:
            message["reasoning"] = self._reasoning
        shown: Json = {"session_id": self._session_id}
        if self._show_calls:
            shown["calls"] = list(self._calls.values())
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": self._finish_reason,
            "logprobs": None,
        }
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": usage,
            "caesura": shown,
        }

    def _added(self, text: str) -> str:
        if self._turn_begins and self._text:
            text = BETWEEN_TURNS + text
        self._turn_begins = False
        self._text += text
        return text

    def _called(self, call: Called) -> Json:
        index = len(self._calls)
        function = {"name": call.name, "arguments": call.arguments}
        self._calls[call.call_id] = {"call_id": call.call_id, **function}
        shown = {"index": index, "id": call.call_id, "type": "function", "function": function}
        return self._chunk({"tool_calls": [shown]})

    def _returned(self, result: Returned) -> Json:
        told = {"ending": result.ending, "content": result.content}
        self._calls[result.call_id] |= told
        shown = {"call_id": result.call_id, "name": result.name, **told}
        return self._chunk({}, caesura={"result": shown})

    def _chunk(self, delta: Json, *, finish_reason: str | None = None, **more: Json) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice], **more}


def error_chunk(error: Exception) -> Json:
    """What a stream that has begun tells of an error."""
    return error_body(error)[1].model_dump()


def chat_usage(input_tokens: int, output_tokens: int) -> Json:
    """Tokens of a run. Each is counted once, however many turns have read it."""
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
