"""Rules over a whole session: mistakes that are forgiven, and for how long."""

from dataclasses import dataclass
from enum import StrEnum

from caesura.cml.faults import ErrorKind, ProtocolError
from caesura.cml.frames import Call, FireAndForget, Trap
from caesura.cml.machine import Event

IDLE_TRAPS_FORGIVEN = 1


class ViolationKind(StrEnum):
    """Why a session cannot go on."""

    TRAPPED_FOR_EVER = "trapped_for_ever"
    ONLY_MISTAKES = "only_mistakes"


@dataclass(frozen=True, slots=True)
class Violation:
    """The session's end with an error.

    Attributes:
        kind: which rule was broken.
        message: what happened, for the client.
    """

    kind: ViolationKind
    message: str


class Rules:
    """Judges one session's events in order; keeps only counts.

    A trap is idle if nothing is pending and nothing waits to be injected. The model is told of
    the first; a second, however much later, ends the session. So do too many mistakes without a
    valid call or trap between them: each makes the model go on, possibly for ever.

    Args:
        mistakes_in_a_row: mistakes that are told; one more ends the session.
    """

    def __init__(self, mistakes_in_a_row: int = 8) -> None:
        self._forgiven_mistakes = mistakes_in_a_row
        self._mistakes = 0
        self._idle_traps = 0

    def judge(self, event: Event, *, awaits: bool) -> ProtocolError | Violation | None:
        """What follows from an event besides itself.

        Args:
            event: what a monitor reported.
            awaits: a call is pending, or an interrupt waits to be injected.

        Returns:
            ProtocolError: the event was a mistake in this situation; the model is to be told.
            Violation: the session is over.
        """
        match event:
            case Call() | FireAndForget():
                self._mistakes = 0
            case Trap():
                self._mistakes = 0
                return None if awaits else self._idle_trap()
            case ProtocolError():
                return self._mistake(event)
            case _:
                pass
        return None

    def _idle_trap(self) -> ProtocolError | Violation:
        self._idle_traps += 1
        if self._idle_traps > IDLE_TRAPS_FORGIVEN:
            return Violation(
                ViolationKind.TRAPPED_FOR_EVER,
                "the model waits although no call is pending, and was told so before",
            )
        return ProtocolError(
            ErrorKind.NOTHING_PENDING,
            "No call is pending, so nothing will end this trap. Go on without waiting.",
        )

    def _mistake(self, error: ProtocolError) -> Violation | None:
        self._mistakes += 1
        if self._mistakes <= self._forgiven_mistakes:
            return None
        return Violation(
            ViolationKind.ONLY_MISTAKES,
            f"the model made {self._mistakes} mistakes without a valid call between them; "
            f"the last: {error.message}",
        )
