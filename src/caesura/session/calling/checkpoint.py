"""All that a calling session goes on from."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from caesura.cml import Call, Interrupt, Mode, Point, State


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a session stands, between two frames. A new session stands behind its prompt.

    Attributes:
        token_ids: the transcript.
        used_ids: ids of calls so far, also of those that were refused.
        pending: calls without a result. They are to be run, and their results delivered.
        queued: interrupts that have arrived and are not in the transcript.
        point: what the stream has come to: `TRAPPED` behind a trap, `ENDED` behind a turn. An
            open bundle of calls counts as complete.
        generated_tokens: in the current turn; 0 if the transcript ends in a prompt.
        reasoning: the transcript ends inside a reasoning block.
    """

    token_ids: Sequence[int]
    used_ids: Collection[str] = ()
    pending: Sequence[Call] = ()
    queued: Sequence[Interrupt] = ()
    point: Point = Point.WRITING
    generated_tokens: int = 0
    reasoning: bool = False

    @property
    def state(self) -> State | None:
        """Where in the grammar the stream is; None at the beginning of a turn."""
        if not self.generated_tokens:
            return None
        return State.REASONING if self.reasoning else State.TEXT

    def read_on_from(self, mode: Mode) -> Sequence[int]:
        """The tokens at whose end a marker or a character may be half written.

        None where the turn had ended: what it ended with is text, and was reported.
        """
        waits = bool(self.pending or self.queued) and mode is not Mode.ASYNC
        return () if waits or self.point is not Point.WRITING else self.token_ids
