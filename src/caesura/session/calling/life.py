"""The life cycle of a calling session, as one state."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from caesura.session.errors import ContextFull


class Stage(Enum):
    """States without details."""

    GOING = "going"  # the engine generates, or the session decides what comes next
    WAITING = "waiting"  # a pause has been reported and has not ended
    ENDED = "ended"  # the model's turn is over
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Prompted:
    """The next turn begins with these tokens."""

    token_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Limited:
    """The turn ends here, at a limit.

    Attributes:
        message: which limit was reached.
        does_not_fit: whether the context has no room for the tokens that came last; they are not
            in the transcript.
    """

    message: str
    does_not_fit: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The engine failed; `events` raises the error."""

    error: Exception


Life = Stage | Prompted | Limited | Failed


def after(life: Life, trouble: Limited | Exception) -> Life:
    """The state after a limit or an error, which change nothing once the turn is over.

    The first limit counts, and a failure overrides any limit.
    """
    if life in (Stage.ENDED, Stage.CLOSED) or isinstance(life, Failed):
        return life
    if isinstance(trouble, ContextFull):
        trouble = Limited(str(trouble), does_not_fit=True)
    if isinstance(trouble, Limited):
        return life if isinstance(life, Limited) else trouble
    return Failed(trouble)
