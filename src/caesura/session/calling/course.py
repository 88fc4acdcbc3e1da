"""Where a session's model is in its turn."""

from dataclasses import dataclass

from caesura.cml import Interrupt, Point, State


@dataclass(frozen=True, slots=True)
class Course:
    """Where a model is at one position of its transcript, outside frames.

    With the tokens up to there and the calls without a result it is all that a session goes on
    from.

    Attributes:
        position: tokens of the transcript up to here.
        point: what the stream has come to: `TRAPPED` behind a trap, `ENDED` behind a turn. An
            open bundle of calls counts as complete, so it is never `CALLED`.
        generated_tokens: in the current turn, over interrupts and pauses; 0 behind a prompt.
        reasoning: a reasoning block is open.
        rounds: prompts and injections so far.
        refused_ids: ids of calls that were mistakes.
        errors: interrupts that tell the model of its mistakes, and wait to be injected.
    """

    position: int
    point: Point = Point.WRITING
    generated_tokens: int = 0
    reasoning: bool = False
    rounds: int = 1
    refused_ids: tuple[str, ...] = ()
    errors: tuple[Interrupt, ...] = ()

    @property
    def state(self) -> State | None:
        """Where in the grammar the stream is; None at the beginning of a turn."""
        if not self.generated_tokens:
            return None
        return State.REASONING if self.reasoning else State.TEXT

    def prompted(self, prompt_tokens: int) -> "Course":
        """Behind the prompt of the next turn."""
        return Course(
            self.position + prompt_tokens, rounds=self.rounds + 1, refused_ids=self.refused_ids
        )
