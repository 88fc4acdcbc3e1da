"""One response on a socket, while its events go by."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from caesura.server.socket.client_events import Create, Inject, Json
from caesura.server.socket.server_events import AcceptedSteer, of_lane

TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_OPENING = frozenset({"response.created", "response.in_progress"})
CALLS = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
}
"""Calls that a client answers, and with what."""


@dataclass(slots=True, eq=False)
class Reply:
    """A response, from the events of one request, or of several that follow each other in it.

    Attributes:
        create: what it answers.
        stored: the stored response that its items follow.
        items: all that is not stored before it, and what it has written so far.
        id: once it has begun.
        shown: its output so far.
        steers: that wait for its end.
        injections: results that wait for their place in it.
        steered_by: the steers that it has come of, without a request of the client.
        is_interrupted: whoever generates was told to stop for a steer or a result.
        open_type: type of the item that is being written; None between items.
    """

    create: Create
    stored: str | None
    items: list[Json]
    id: str | None = None
    shown: list[Json] = field(default_factory=list)
    steers: list[AcceptedSteer] = field(default_factory=list)
    injections: list[Inject] = field(default_factory=list)
    steered_by: list[AcceptedSteer] = field(default_factory=list)
    is_interrupted: bool = False
    open_type: str | None = None
    _answered: set[object] = field(default_factory=set)  # ids of calls
    _sequence: int = 0
    _first_index: int = 0  # of the request that writes it now
    _usage: Json | None = None

    @property
    def has_news(self) -> bool:
        """Whether anything waits for it to be interrupted."""
        return bool(self.steers or self.injections)

    @property
    def written(self) -> list[Json]:
        """The items that the present request has written."""
        return self.shown[self._first_index :]

    @property
    def can_be_interrupted(self) -> bool:
        """Whether text is being written, and no call that its client has to answer first."""
        written = self.written
        began = bool(written) or self.open_type is not None
        return (
            not self.is_interrupted
            and began
            and self.open_type not in CALLS
            and not any(item.get("type") in CALLS for item in written if not item.get("async"))
        )

    def waiting_calls(self, more: Sequence[Json] = ()) -> list[Json]:
        """Calls without a result that do not say that theirs may come later.

        Args:
            more: items that follow it.
        """
        answered = self._answered | set(map(_answers, (*self.shown, *more)))
        return [
            item
            for item in self.shown
            if item.get("type") in CALLS
            and not item.get("async")
            and item.get("status") != "incomplete"
            and item.get("call_id") not in answered
        ]

    def kept(self, end: Json) -> None:
        """A request is answered; what the server has stored of it need not be remembered.

        Args:
            end: its last event.
        """
        response = end["response"]
        is_whole = all(item.get("status") != "incomplete" for item in self.written)
        if response.get("store") is True and is_whole:
            self.stored, self.items = response["id"], []

    def goes_on(self, end: Json) -> None:
        """Another request goes on with it: results have come.

        Args:
            end: the last event of the request before, which is not sent.
        """
        self._usage = _added(self._usage, end["response"].get("usage"))
        for inject in self.injections:
            self.items += inject.items
            self._answered.update(map(_answers, inject.items))
        self.injections = []
        self.is_interrupted = False
        self.open_type = None
        self._first_index = len(self.shown)

    def passed(self, event: Json, *, was_cut: bool) -> Json | None:
        """The event to send; None for one that the client has had or is not to have.

        Args:
            event: the next one.
            was_cut: what is being written ends where it is.
        """
        kind = event.get("type")
        response = event.get("response")
        if not self.create.generates:
            if not isinstance(response, dict):
                return None
            event = _without_output(event)
            response = event["response"]
        if isinstance(response, dict):
            if kind in _OPENING and self._first_index:
                return None
            self.id = self.id or response.get("id")
            event = {**event, "response": self._response(response)}
        if "output_index" in event:
            event = {**event, "output_index": event["output_index"] + self._first_index}
        item = event.get("item")
        if kind == "response.output_item.added" and isinstance(item, Mapping):
            self.open_type = item.get("type")
        if kind == "response.output_item.done" and isinstance(item, Mapping):
            self.open_type = None
            event = {**event, "item": self._written(dict(item), was_cut=was_cut)}
        return self.numbered(event)

    def numbered(self, event: Json) -> Json:
        """An event of this response, with its number and lane."""
        number = self._sequence
        self._sequence += 1
        return of_lane({**event, "sequence_number": number}, self.create.stream_id)

    def _written(self, item: Json, *, was_cut: bool) -> Json:
        is_call = item.get("type") in CALLS
        if was_cut and not (is_call and _is_whole(item)):
            item["status"] = "incomplete"
        self.shown.append(item)
        if not (is_call and item.get("status") == "incomplete"):
            self.items.append(item)  # the model is not shown half of a call
        return item

    def _response(self, response: Json) -> Json:
        told = {**response, "id": self.id}
        if self.create.previous is not None:
            told["previous_response_id"] = self.create.previous
        if self._first_index or self.is_interrupted:
            told["output"] = [*self.shown]
        if self._usage is not None:
            told["usage"] = _added(self._usage, response.get("usage"))
        return told


def _without_output(event: Json) -> Json:
    """An event of a response that writes nothing, and whose prompt is computed nevertheless."""
    response: Json = {**event["response"], "output": []}
    if isinstance(usage := response.get("usage"), dict):
        read = usage.get("input_tokens", 0)
        response["usage"] = {**usage, "output_tokens": 0, "total_tokens": read}
    if event["type"] in ("response.completed", "response.incomplete"):
        response |= {"status": "completed", "incomplete_details": None}
        event = {**event, "type": "response.completed"}
    return {**event, "response": response}


def _answers(item: Json) -> object:
    """The id of the call that an item is the result of; None for others."""
    return item.get("call_id") if item.get("type") in CALLS.values() else None


def _is_whole(call: Json) -> bool:
    """Whether a call has all of its arguments."""
    if call["type"] != "function_call":
        return False
    try:
        return isinstance(json.loads(call.get("arguments") or ""), dict)
    except ValueError:
        return False


def _added(before: Json | None, usage: Json | None) -> Json | None:
    """Usage of a response that several requests have written: each token is counted once."""
    if before is None or usage is None:
        return usage or before
    output = before["output_tokens"] + usage["output_tokens"]
    read = usage["input_tokens"] - before["output_tokens"]
    return {**usage, "input_tokens": read, "output_tokens": output, "total_tokens": read + output}
