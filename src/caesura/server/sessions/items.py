"""A session's events as the messages that its model has written and read."""

from collections.abc import Iterable
from typing import Any

from pydantic import JsonValue

from caesura.session.records import Event, EventType

Item = dict[str, Any]


def items_of(events: Iterable[Event]) -> list[Item]:
    """Messages since the session began.

    Results stand where the model reads them: those of a turn together and in the order of its
    calls, or, where calls have names in the model's context, at their interrupts.
    """
    reader = _Reader()
    for event in events:
        reader.read(event)
    reader.deliver()
    return reader.items


class _Reader:
    def __init__(self) -> None:
        self.items: list[Item] = []
        self._continues = False  # the latest answer goes on
        self._undelivered: list[str] = []
        self._results: dict[str, Item] = {}

    def read(self, event: Event) -> None:
        data = event.data
        match event.type:
            case EventType.OUTPUT:
                self._output(data)
            case EventType.CALL:
                self._call(data)
            case EventType.RESULT:
                told = {name: data[name] for name in ("call_id", "name", "content", "ending")}
                self._results[str(data["call_id"])] = {"role": "tool", **told}
            case EventType.INJECTED:
                self._injected(data["interrupts"])
            case EventType.MESSAGE:
                self._deliver_if_complete()
                self.items.append({"role": data["role"], "content": data["content"]})
            case EventType.PHASE if data["phase"] == "generating":
                self._deliver_if_complete()

    def deliver(self) -> None:
        """The results that are there follow here."""
        there = [call_id for call_id in self._undelivered if call_id in self._results]
        self.items.extend(self._results.pop(call_id) for call_id in there)
        self._undelivered.clear()

    def _deliver_if_complete(self) -> None:
        if self._results.keys() >= set(self._undelivered):
            self.deliver()

    def _output(self, data: dict[str, JsonValue]) -> None:
        output: Item = {
            "content": data["text"],
            "reasoning": data["reasoning"],
            "stop": data["stop"],
        }
        last: Item = self.items[-1] if self.items else {"role": None}
        if self._continues and last["role"] == "assistant":
            last["content"] += output["content"]
            last["reasoning"] += output["reasoning"]
            last["stop"] = output["stop"]
        else:
            self.items.append({"role": "assistant", **output, "calls": []})
        self._continues = data.get("continues") is True

    def _call(self, data: dict[str, JsonValue]) -> None:
        named = {name: data[name] for name in ("call_id", "name", "arguments")}
        self.items[-1]["calls"].append(named)
        if data.get("label") is None:  # those of the others come as interrupts
            self._undelivered.append(str(data["call_id"]))

    def _injected(self, interrupts: JsonValue) -> None:
        assert isinstance(interrupts, list)
        for one in interrupts:
            assert isinstance(one, dict)
            if (result := self._results.pop(str(one["call_id"]), None)) is not None:
                self.items.append(result)
            elif "error" in one:
                self.items.append({"role": "tool", "content": one["error"], "ending": "invalid"})
