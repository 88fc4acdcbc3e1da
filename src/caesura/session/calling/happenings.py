"""What happens in a calling session, in the order of its transcript."""

from dataclasses import dataclass
from enum import StrEnum

from caesura.cml import Call, Channel, FireAndForget, ProtocolError
from caesura.session.calling.arrivals import Arrival


class Ending(StrEnum):
    """Why the model is not going on."""

    COMPLETED = "completed"  # it ended its turn, and nothing is waited for
    LIMIT = "limit"  # of the turn's tokens, or of the model's context
    FAILED = "failed"  # it broke the rules of CML too often


@dataclass(frozen=True, slots=True)
class Happening:
    """What all events have.

    Attributes:
        position: tokens of the transcript when it happened.
        at: time when it was noticed, in seconds of the session's clock.
    """

    position: int
    at: float


@dataclass(frozen=True, slots=True)
class FirstToken(Happening):
    """The first token after a prompt, an injection or a return to the engine.

    Attributes:
        cached_tokens: tokens of the context that were not computed again, if the engine says so.
    """

    cached_tokens: int | None


@dataclass(frozen=True, slots=True)
class TextWritten(Happening):
    """A piece of text outside frames, unescaped."""

    text: str
    channel: Channel


@dataclass(frozen=True, slots=True)
class CallIssued(Happening):
    """A call is complete: it can be run. `position` is right behind its `[END]`.

    Attributes:
        call: the call; its result is to be delivered.
        opened_at: when its `[CALL]` arrived.
        tokens: of the frame, with its markers.
    """

    call: Call
    opened_at: float
    tokens: int


@dataclass(frozen=True, slots=True)
class SentOff(Happening):
    """A call without an id is complete: it can be run, and nothing is to be delivered."""

    call: FireAndForget
    opened_at: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Trapped(Happening):
    """The model wrote a trap."""


@dataclass(frozen=True, slots=True)
class Paused(Happening):
    """Nothing is generated until something arrives. Told once per pause.

    Attributes:
        pending: the calls that are waited for.
        remaining_seconds: how long that is expected to take; None if nothing is known.
    """

    pending: frozenset[str]
    remaining_seconds: float | None


@dataclass(frozen=True, slots=True)
class Injected(Happening):
    """Interrupts took their place: `transcript[position : position + tokens]`.

    Attributes:
        arrivals: the interrupts, in order of arrival.
        tokens: how long they are together.
    """

    arrivals: tuple[Arrival, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class Mistake(Happening):
    """The model broke the grammar or a rule. It is told by an interrupt, without further ado."""

    error: ProtocolError


@dataclass(frozen=True, slots=True)
class Ended(Happening):
    """The model's turn is over. Another prompt may follow.

    Attributes:
        ending: why.
        message: what went wrong or which limit was reached, for the client.
        pending: calls whose results have not arrived.
        does_not_fit: the model's context has no room for what came last; it is not in the
            transcript.
    """

    ending: Ending
    message: str | None
    pending: frozenset[str]
    does_not_fit: bool = False


CallingEvent = (
    FirstToken | TextWritten | CallIssued | SentOff | Trapped | Paused | Injected | Mistake | Ended
)
