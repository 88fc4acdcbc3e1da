"""Rules for a whole session: how many mistakes are forgiven before it ends."""

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
        kind: the rule that was broken.
        message: what happened, for the client.
    """

    kind: ViolationKind
    message: str


class Rules:
    """Judges the events of one session, in order. Keeps only counts.

    A trap is idle if nothing is pending and nothing waits to be injected. The model is told of
    the first idle trap, and the second ends the session, however much later it comes. Too many
    mistakes without a valid call or trap between them end it as well, because the model could go
    on making them for ever.

    Args:
        mistakes_in_a_row: how many the model is told of; one more ends the session.
    """

    def __init__(self, mistakes_in_a_row: int = 8) -> None:
        self._forgiven_mistakes = mistakes_in_a_row
        self._mistakes = 0
        self._idle_traps = 0

    def judge(self, event: Event, *, awaits: bool) -> ProtocolError | Violation | None:
        """Whether an event is a mistake in its situation, or ends the session.

        Args:
            event: what a monitor reported.
            awaits: a call is pending, or an interrupt waits to be injected.

        Returns:
            ProtocolError: it was a mistake, of which the model must be told.
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
