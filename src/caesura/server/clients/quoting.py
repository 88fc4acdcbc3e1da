"""Markers of CML in what clients send: quoted, so that nothing they send forges a frame.

vLLM tokenizes a rendered conversation with its special tokens. To a model that was trained for
CML a marker in a tool's result would be one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from caesura.cml.chat_quoting import quoted_message


def quoted_messages(messages: Sequence[Any]) -> list[Any]:
    """The messages with all markers quoted, but in system messages."""
    return [
        quoted_message(message) if isinstance(message, Mapping) else message for message in messages
    ]
