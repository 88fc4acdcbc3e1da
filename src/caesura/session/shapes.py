"""How calls, results and messages look to the model, and in events."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from caesura.cml import USER_ID, Interrupt
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
    interrupts: Sequence[Interrupt],
    calls: Mapping[str, CallRecord],
    position: int,
    turn: int,
) -> dict[str, JsonValue]:
    """Interrupts that took their place, for an event. Results are told by their calls."""
    told: list[JsonValue] = []
    for interrupt in interrupts:
        record = calls.get(interrupt.id)
        one: dict[str, JsonValue] = {"id": interrupt.id, "call_id": None}
        if record is not None:
            one["call_id"] = record.call.id
        elif interrupt.id != USER_ID:
            one["error"] = interrupt.value
        told.append(one)
    return {"turn": turn, "position": position, "interrupts": told}
