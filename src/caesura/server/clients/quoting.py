"""Markers of CML in what clients send: quoted, so that nothing they send forges a frame.

vLLM tokenizes a rendered conversation with its special tokens. To a model that was trained for
CML a marker in a tool's result would be one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from caesura.cml import Marker, escape

_QUOTED = ("content", "reasoning", "reasoning_content")


def has_markers(special_texts: Sequence[str]) -> bool:
    """Whether these special tokens of a tokenizer are those of a model trained for CML."""
    return {marker.value for marker in Marker} <= set(special_texts)


def quoted_messages(messages: Sequence[Any]) -> list[Any]:
    """The messages with all markers quoted, but in system messages.

    What the model wrote was unquoted for the client, and is as the model wrote it again.
    """
    return [_quoted(message) for message in messages]


def _quoted(message: Any) -> Any:
    if not isinstance(message, Mapping) or message.get("role") in ("system", "developer"):
        return message
    texts = {name: _value(message[name]) for name in _QUOTED if message.get(name)}
    calls = message.get("tool_calls")
    if isinstance(calls, Sequence):
        texts["tool_calls"] = [_call(call) for call in calls]
    return {**message, **texts}


def _call(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    return {**call, "function": _value(call.get("function"))}


def _value(value: Any) -> Any:
    """The value with all markers in its texts quoted."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, Mapping):
        return {name: _value(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [_value(item) for item in value]
    return value
