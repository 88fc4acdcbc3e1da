"""What a session does next, by its mode. Pure decisions: the runtime carries them out."""

from dataclasses import dataclass
from enum import Enum, StrEnum

from caesura.cml.faults import ProtocolError
from caesura.cml.frames import Call, FireAndForget, Text, Trap
from caesura.cml.machine import EndOfStream, Event


class Mode(StrEnum):
    """What happens at a call. One protocol, one model; the system prompt says which."""

    SYNC = "sync"  # pause for its result
    SYNC_PARALLEL = "sync_parallel"  # pause for the results of adjacent calls, all together
    ASYNC = "async"  # go on; pause at a trap


class AtEnd(StrEnum):
    """What happens to pending calls when the model of an asynchronous session ends its turn."""

    WAIT = "wait"  # the model reads their results, and goes on
    LEAVE = "leave"  # the session ends; each call is left or cancelled, as its tool says


class Point(Enum):
    """Where the stream stands."""

    WRITING = "writing"
    CALLED = "called"  # behind a call; the next one may belong to the same bundle
    TRAPPED = "trapped"
    ENDED = "ended"

    def after(self, event: Event) -> "Point":
        """Where the stream stands after an event.

        White space does not separate adjacent calls, but a mistake does. Events behind a trap or
        the end of a turn, of tokens that were already under way, change nothing.
        """
        if isinstance(event, EndOfStream):
            return Point.ENDED
        if self in (Point.TRAPPED, Point.ENDED):
            return self
        match event:
            case Call() | FireAndForget():
                return Point.CALLED
            case Trap():
                return Point.TRAPPED
            case Text(text) if not text.strip():
                return self
            case Text() | ProtocolError():
                return Point.WRITING


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a decision depends on.

    Attributes:
        point: where the stream stands; `WRITING` again once something was injected.
        pending: ids of calls whose results have not arrived.
        has_queued: interrupts have arrived and wait to be injected.
        in_critical_section: see `Monitor`.
    """

    point: Point
    pending: frozenset[str] = frozenset()
    has_queued: bool = False
    in_critical_section: bool = False


@dataclass(frozen=True, slots=True)
class GoOn:
    """Generate."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Generate nothing until a result arrives, then decide again.

    Attributes:
        pending: the calls that are waited for, at least one; together they are the pause's
            endpoint. The calls of a bundle are executed together, now at the latest.
    """

    pending: frozenset[str]


@dataclass(frozen=True, slots=True)
class Inject:
    """Inject all queued interrupts, in order of arrival, and generate."""


@dataclass(frozen=True, slots=True)
class End:
    """The session's work is done."""


Step = GoOn | Pause | Inject | End


def next_step(mode: Mode, situation: Situation, at_end: AtEnd = AtEnd.WAIT) -> Step:
    """What the runtime must do next: after each event, and whenever a result arrives.

    Nothing is injected in a critical section, and queued interrupts are not lost at the end of a
    turn. A trap always has something to wait for: for an idle one `Rules` queues an interrupt, or
    ends the session.
    """
    if situation.in_critical_section:
        return GoOn()
    if _bundle_is_open(mode, situation):
        return GoOn()
    if situation.pending and _waits_for_all(mode):
        return Pause(situation.pending)
    if situation.has_queued:
        return Inject()
    if situation.pending and _must_wait(situation.point, at_end):
        return Pause(situation.pending)
    return End() if situation.point is Point.ENDED else GoOn()


def _bundle_is_open(mode: Mode, situation: Situation) -> bool:
    """Whether the next frame may be a call that belongs to those just written."""
    return mode is Mode.SYNC_PARALLEL and situation.point is Point.CALLED


def _waits_for_all(mode: Mode) -> bool:
    return mode is not Mode.ASYNC


def _must_wait(point: Point, at_end: AtEnd) -> bool:
    return point is Point.TRAPPED or (point is Point.ENDED and at_end is AtEnd.WAIT)
