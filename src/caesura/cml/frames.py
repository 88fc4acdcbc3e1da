"""What a stream is made of: frames, and the text between them."""

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self, TypeAlias

JsonValue: TypeAlias = str | int | float | bool | list["JsonValue"] | dict[str, "JsonValue"] | None
JsonObject: TypeAlias = dict[str, JsonValue]

USER_ID = "user"
"""Interrupts of this id are steering messages of the user."""
ERROR_ID = "error"
"""Interrupts of this id report mistakes that cannot be told under the id of a call."""
RESERVED_IDS = frozenset({USER_ID, ERROR_ID})

_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def is_id(text: str) -> bool:
    """Whether this is a letter, then letters, digits and underscores (ASCII)."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a model may write.

    Attributes:
        id_characters: longest id.
        body_characters: longest content of a frame, as it is written.
        nesting: how deep a call's arguments may be nested.
        frames_per_turn: calls and traps in a turn, well formed or not.
        calls_per_session: ids in a session, which are remembered.
    """

    id_characters: int = 32
    body_characters: int = 65_536
    nesting: int = 64
    frames_per_turn: int = 1024
    calls_per_session: int = 65_536


class Channel(StrEnum):
    """Where text belongs."""

    ANSWER = "answer"
    REASONING = "reasoning"


@dataclass(frozen=True, slots=True)
class Text:
    """Text outside frames, unescaped; a monitor reports it in pieces."""

    text: str
    channel: Channel = Channel.ANSWER


@dataclass(frozen=True, slots=True)
class Call:
    """A call. Its result comes as an interrupt with the same id."""

    id: str
    name: str
    arguments: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FireAndForget:
    """A call without an id. Its result is dropped, and no interrupt comes."""

    name: str
    arguments: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trap:
    """The model cannot go on until an interrupt comes."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """A frame that the runtime injects: a result, an error or a message of the user.

    Attributes:
        id: the id of a call, `USER_ID` or `ERROR_ID`.
        value: any text, as it is; the encoder escapes it.

    Raises:
        ValueError: the id breaks the grammar.
    """

    id: str
    value: str

    def __post_init__(self) -> None:
        if not is_id(self.id):
            raise ValueError(f"{self.id!r} is not an id of an interrupt")

    @classmethod
    def of_failure(cls, call_id: str, error_type: str, message: str) -> Self:
        """The result of a call that failed."""
        return cls(call_id, error_content(error_type, message))

    @classmethod
    def steering(cls, message: str) -> Self:
        """A message of the user."""
        return cls(USER_ID, message)


Frame = Call | FireAndForget | Trap | Interrupt
Piece = Text | Frame


def json_text(value: JsonValue) -> str:
    """The value as JSON for the model, without escapes for characters that are not ASCII.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def error_content(error_type: str, message: str) -> str:
    """The value of an interrupt for a call that failed, as JSON."""
    return json_text({"error": {"type": error_type, "message": message}})
