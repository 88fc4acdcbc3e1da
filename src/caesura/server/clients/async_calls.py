"""Calls whose results may come later: tools that a client declares with `async: true`.

A model that was trained for CML is asked to go on while its calls run. Any other model is told so
in the tool's description; and where a result has not come when the conversation goes on, the call
is answered for the model by a word that it runs. The result stands where it comes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from caesura.server.clients.history import Message

TOLD = (
    "Runs in the background: its result is not there at once, and comes in a later message. Go on "
    "without it, and do not call again."
)
"""In the description of such a tool."""
RUNNING = '{"status": "running", "note": "The result will come in a later message."}'
"""In place of a result that has not come."""


def described(
    definitions: Sequence[Mapping[str, Any]] | None, names: frozenset[str]
) -> list[dict[str, Any]] | None:
    """The definitions of tools, as chat templates read them, with that in their description."""
    if definitions is None:
        return None
    told = []
    for definition in definitions:
        function = definition.get("function")
        if isinstance(function, Mapping) and function.get("name") in names:
            text = " ".join(filter(None, (function.get("description"), TOLD)))
            definition = {**definition, "function": {**function, "description": text}}
        told.append(dict(definition))
    return told


def with_running(messages: Sequence[Message], names: frozenset[str]) -> list[Message]:
    """The messages, with a word for each result that has not come when others follow its call.

    A result that comes twice is shown once.

    Args:
        messages: a conversation.
        names: of the tools whose results may come later.
    """
    shown: list[Message] = []
    results: set[tuple[object, object]] = set()
    missing: dict[str, None] = {}  # of the turn that the results belong to, in order
    for message in messages:
        if message.get("role") == "tool":
            call_id = message.get("tool_call_id")
            result = (call_id, str(message.get("content")))
            missing.pop(str(call_id), None)
            if result not in results:
                results.add(result)
                shown.append(message)
            continue
        shown += map(_running, missing)
        missing = dict.fromkeys(_calls(message, names))
        shown.append(message)
    if shown and shown[-1].get("role") == "tool":
        shown += map(_running, missing)
    return shown


def _calls(message: Message, names: frozenset[str]) -> list[str]:
    calls = message.get("tool_calls")
    return [
        str(call["id"])
        for call in (calls if isinstance(calls, Sequence) else ())
        if call["function"]["name"] in names
    ]


def _running(call_id: str) -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": RUNNING}
