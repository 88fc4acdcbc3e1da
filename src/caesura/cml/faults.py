"""Mistakes of the model, as values. The model is told of them, and the session goes on."""

from dataclasses import dataclass
from enum import StrEnum

from caesura.cml.frames import ERROR_ID, Interrupt

_EXCERPT_CHARACTERS = 40


class ErrorKind(StrEnum):
    """All kinds of mistakes. Their values are the error types that the model reads."""

    MISSING_ID = "missing_id"
    MALFORMED_ID = "malformed_id"
    ID_TOO_LONG = "id_too_long"
    RESERVED_ID = "reserved_id"
    DUPLICATE_ID = "duplicate_id"
    MALFORMED_JSON = "malformed_json"
    MALFORMED_BODY = "malformed_body"  # JSON, but not a name and arguments
    UNKNOWN_TOOL = "unknown_tool"
    INVALID_ARGUMENTS = "invalid_arguments"
    UNEXPECTED_MARKER = "unexpected_marker"
    UNEXPECTED_TEXT = "unexpected_text"  # in a trap
    INTERRUPT_GENERATED = "interrupt_generated"
    FRAME_TOO_LONG = "frame_too_long"
    TOO_MANY_FRAMES = "too_many_frames"
    UNFINISHED_FRAME = "unfinished_frame"  # cut off by the end of the stream or an interrupt
    NOTHING_PENDING = "nothing_pending"  # nothing would end the trap


@dataclass(frozen=True, slots=True)
class ProtocolError:
    """A mistake of the model. The frame that contains it has no other effect.

    Attributes:
        kind: the kind of mistake.
        message: what is wrong and what to do instead, for the model.
        call_id: the id of the call that will not be made, if that id is certainly its own.
    """

    kind: ErrorKind
    message: str
    call_id: str | None = None

    @property
    def interrupt(self) -> Interrupt:
        """The interrupt that tells the model."""
        return Interrupt.of_failure(self.call_id or ERROR_ID, self.kind, self.message)


def excerpt(text: str) -> str:
    """The beginning of what the model wrote, quoted for a message."""
    if len(text) <= _EXCERPT_CHARACTERS:
        return f'"{text}"'
    return f'"{text[:_EXCERPT_CHARACTERS]}..."'
