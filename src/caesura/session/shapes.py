"""How calls, results and messages look to the model, and in events."""

import json
from collections.abc import Sequence

from pydantic import JsonValue

from caesura.cml import Call, Interrupt
from caesura.session.calling import Arrival
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
    interrupts: Sequence[dict[str, JsonValue]], position: int, turn: int
) -> dict[str, JsonValue]:
    """Interrupts that took their place, for an event.

    Args:
        interrupts: the interrupts, in order.
        position: tokens of the transcript before them.
        turn: the generation that they interrupted.
    """
    return {"turn": turn, "position": position, "interrupts": list(interrupts)}


def read_details(record: CallRecord) -> dict[str, JsonValue]:
    """A result as one of these interrupts; what it says was told when it was there."""
    return {"id": record.label, "call_id": record.call.id}


def arrival_details(arrival: Arrival) -> dict[str, JsonValue]:
    """What arrived at a CML session, as one of these interrupts."""
    if isinstance(arrival.source, CallRecord):
        return read_details(arrival.source)
    interrupt = arrival.interrupt
    error: dict[str, JsonValue] = {"error": interrupt.value} if arrival.is_error else {}
    return {"id": interrupt.id, "call_id": None, **error}
