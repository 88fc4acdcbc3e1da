"""How calls, results and messages look to the model, and in events."""

from pydantic import JsonValue

from caesura.session.records import CallRecord, Message
from caesura.tools.call import CallResult


def user_message(text: str) -> Message:
    """A message of the user."""
    return {"role": "user", "content": text}


def tool_message(record: CallRecord) -> Message:
    """The result of a call, for the model."""
    assert record.result is not None
    return {
        "role": "tool",
        "tool_call_id": record.call.id,
        "name": record.call.name,
        "content": record.result.content,
    }


def call_details(record: CallRecord) -> dict[str, JsonValue]:
    """A call, for an event."""
    call = record.call
    return {
        "call_id": call.id,
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
