"""The life of a calling session: at any time it is in one of these states."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from caesura.session.errors import ContextFull


class Stage(Enum):
    """States about which there is nothing more to say."""

    GOING = "going"  # the engine generates, or it is to be decided what comes next
    WAITING = "waiting"  # its owner knows of a pause that has not ended
    ENDED = "ended"  # the model's turn is over
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Prompted:
    """The next turn is to begin with these tokens."""

    token_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Limited:
    """The turn is to end here.

    Attributes:
        message: which limit was reached.
        does_not_fit: what came last is not in the transcript: the context has no room for it.
    """

    message: str
    does_not_fit: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The engine failed, and the owner is to be told."""

    error: Exception


Life = Stage | Prompted | Limited | Failed


def after(life: Life, trouble: Limited | Exception) -> Life:
    """What a limit or an error makes of a session: nothing if its turn is over.

    The first limit counts, and a failure counts before any limit.
    """
    if life in (Stage.ENDED, Stage.CLOSED) or isinstance(life, Failed):
        return life
    if isinstance(trouble, ContextFull):
        trouble = Limited(str(trouble), does_not_fit=True)
    if isinstance(trouble, Limited):
        return life if isinstance(life, Limited) else trouble
    return Failed(trouble)
