"""The state of a session's model at one position of its transcript."""

from dataclasses import dataclass

from caesura.cml import Interrupt, Point, State


@dataclass(frozen=True, slots=True)
class Course:
    """The state of a model at one position of its transcript, outside frames.

    Together with the tokens up to there and the calls without a result, it is all that a session
    needs to go on.

    Attributes:
        position: tokens of the transcript up to here.
        point: what the stream has come to: `TRAPPED` after a trap, `ENDED` after a turn. An open
            bundle of calls counts as complete, so it is never `CALLED`.
        generated_tokens: tokens that the model wrote in the current turn, across interrupts and
            pauses; 0 after a prompt.
        reasoning: whether a reasoning block is open.
        rounds: prompts and injections so far.
        refused_ids: ids of calls that were mistakes.
        errors: interrupts that tell the model of its mistakes and are not injected yet.
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
        """The state of the grammar; None at the beginning of a turn."""
        if not self.generated_tokens:
            return None
        return State.REASONING if self.reasoning else State.TEXT

    def prompted(self, prompt_tokens: int) -> "Course":
        """The state after the prompt of the next turn."""
        return Course(
            self.position + prompt_tokens, rounds=self.rounds + 1, refused_ids=self.refused_ids
        )
