"""The chunks of a streamed chat completion: what they say in all, and the report at their end."""

import json
from collections.abc import Callable, Mapping
from typing import Any

_PREFIX = "data: "


class ChatStream:
    """Reads the chunks of one chat completion as they go by, alone or as server-sent events.

    Args:
        ended: called with the assistant's message when it is whole, before the event that says
            so is passed on: the client may come back at once.
        report: what the final usage says beside the tokens.
    """

    def __init__(
        self,
        ended: Callable[[dict[str, object]], None],
        report: Callable[[], dict[str, object]],
    ) -> None:
        self._ended = ended
        self._report = report
        self._texts: dict[str, list[str]] = {"content": [], "reasoning": []}
        self._calls: dict[int, dict[str, str]] = {}

    def passed(self, event: str) -> str:
        """The event to send in place of this one."""
        if not event.startswith(_PREFIX + "{"):
            return event
        chunk: dict[str, Any] = json.loads(event[len(_PREFIX) :])
        report = self.note(chunk)
        if report is not None:
            chunk["usage"]["caesura"] = report
            return f"{_PREFIX}{json.dumps(chunk, separators=(',', ':'), ensure_ascii=False)}\n\n"
        return event

    def note(self, chunk: Mapping[str, Any]) -> dict[str, object] | None:
        """Read a chunk; returns what its usage is to say in addition, if it is the final one."""
        for choice in chunk.get("choices") or ():
            self._add(choice.get("delta") or {})
            if choice.get("finish_reason") is not None:
                self._ended(self._message())
        if chunk.get("choices") == [] and chunk.get("usage"):
            return self._report()
        return None

    def _add(self, delta: dict[str, Any]) -> None:
        for name, pieces in self._texts.items():
            if delta.get(name):
                pieces.append(delta[name])
        for part in delta.get("tool_calls") or ():
            call = self._calls.setdefault(part["index"], {"id": "", "name": "", "arguments": ""})
            function = part.get("function") or {}
            call["id"] = part.get("id") or call["id"]
            call["name"] += function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""

    def _message(self) -> dict[str, object]:
        message: dict[str, object] = {name: "".join(pieces) for name, pieces in self._texts.items()}
        message["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for _, call in sorted(self._calls.items())
        ]
        return message | {"role": "assistant"}
