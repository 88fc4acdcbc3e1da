"""How calls, results and messages look to the model, and in events."""

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from pydantic import JsonValue

from caesura.cml import Call, Interrupt
from caesura.session.records import CallRecord, Message
from caesura.tools.call import CallResult, ToolCall


def user_message(text: str) -> Message:
    """A message of the user."""
    return {"role": "user", "content": text}


def tool_message(record: CallRecord) -> Message:
    """The result of a call, for the model."""
    assert record.result is not None
    return said_by_tool(record.call, record.result.content)


def said_by_tool(call: ToolCall, content: str) -> Message:
    """What the model reads of a call."""
    return {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": content}


def call_of(record: CallRecord) -> Call:
    """A call as its model wrote it in CML."""
    arguments = json.loads(record.call.arguments_text)
    return Call(str(record.label), record.call.name, arguments)


def interrupt_of(record: CallRecord) -> Interrupt:
    """The result of such a call, for the model."""
    assert record.result is not None
    return Interrupt(str(record.label), record.result.content)


def call_details(record: CallRecord) -> dict[str, JsonValue]:
    """A call, for an event."""
    call = record.call
    return {
        "call_id": call.id,
        "label": record.label,
        "turn": record.turn,
        "name": call.name,
        "arguments": call.arguments_text,
    }


def result_details(result: CallResult) -> dict[str, JsonValue]:
    """A result, for an event."""
    return {
        "call_id": result.call_id,
        "name": result.name,
        "ending": result.ending,
        "content": result.content,
        "seconds": result.seconds,
        "attempts": result.attempts,
        "cached": result.cached,
        "cut": result.cut,
    }


def trapped_details(waited_for: Sequence[CallRecord], turn: int) -> dict[str, JsonValue]:
    """A pause of a session whose model waits for calls, for an event."""
    return {"turn": turn, "call_ids": [record.call.id for record in waited_for]}


def injected_details(
    ids: Sequence[str],
    calls: Mapping[str, CallRecord],
    position: int,
    turn: int,
    errors: Sequence[str | None] = (),
) -> dict[str, JsonValue]:
    """Interrupts that took their place, for an event. Results are told by their calls.

    Args:
        ids: of the interrupts, in order.
        calls: those whose results they are, by these ids.
        position: tokens of the transcript before them.
        turn: the generation that they interrupted.
        errors: for each of them, what the model was told of its mistake; None if it is no such.
    """
    told: list[JsonValue] = []
    for one, error in zip_longest(ids, errors):
        record = calls.get(one)
        shown: dict[str, JsonValue] = {"id": one, "call_id": record.call.id if record else None}
        if record is None and error is not None:
            shown["error"] = error
        told.append(shown)
    return {"turn": turn, "position": position, "interrupts": told}
