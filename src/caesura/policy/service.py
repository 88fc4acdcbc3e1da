"""What a session has had so far, and where it stands."""

from dataclasses import dataclass, replace
from typing import Self

LIGHT_CONTEXT_TOKENS = 1000
"""Putting a context up to this size aside and restoring it costs next to nothing."""

MAX_STAGES = 64
"""Stages of a session that are remembered: enough to learn from, and bounded."""

_LAST_TURN = 4
"""Turns from this one on are alike."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A point in a session that says something about how much it will still generate.

    Attributes:
        kind: sessions that come to a stage of the same kind are alike: by the size of the prompt
            when they arrive, and by what they paused for, and how often, when they return.
        output_tokens: what had been generated for the session when it came here.
    """

    kind: str
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Service:
    """What a session has had so far.

    Attributes:
        arrival_seconds: original arrival of the session.
        paused_seconds: time that it has spent in pauses, when it wanted nothing.
        output_tokens: tokens generated for it.
        weighted_tokens: the same, those with a heavy context counted less: with `n` times
            `LIGHT_CONTEXT_TOKENS`, a token counts `1 / n`.
        pauses: how often it has paused.
        stages: where it has been, the last one last; at most `MAX_STAGES`.
    """

    arrival_seconds: float
    paused_seconds: float = 0.0
    output_tokens: int = 0
    weighted_tokens: float = 0.0
    pauses: int = 0
    stages: tuple[Stage, ...] = ()

    @classmethod
    def begun(cls, arrival_seconds: float, prompt_tokens: int) -> Self:
        """A session that has just arrived with a prompt of this length."""
        return cls(arrival_seconds, stages=(Stage(f"prompt of 2^{prompt_tokens.bit_length()}", 0),))

    def paused(self, seconds: float, endpoint: str, owner: str | None = None) -> Self:
        """The same after a pause for an endpoint; those of different owners are not alike."""
        pauses = self.pauses + 1
        kind = f"{owner or ''}/{endpoint}/{min(pauses, _LAST_TURN)}"
        stages = (*self.stages, Stage(kind, self.output_tokens))[-MAX_STAGES:]
        return replace(
            self,
            paused_seconds=self.paused_seconds + seconds,
            pauses=pauses,
            stages=stages,
        )

    def served(self, output_tokens: int, context_tokens: int) -> Self:
        """The same after tokens were generated with a context of this size."""
        weight = LIGHT_CONTEXT_TOKENS / max(LIGHT_CONTEXT_TOKENS, context_tokens)
        return replace(
            self,
            output_tokens=self.output_tokens + output_tokens,
            weighted_tokens=self.weighted_tokens + weight * output_tokens,
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """A session's request that waits or runs.

    Attributes:
        context_tokens: tokens of its context.
        restoring_tokens: how many tokens the batch could generate one after the other while
            what the device and host memory lack of the context is computed again.
        held_tokens: how much of it was kept on the device while the session paused.
        swapped_tokens: how much more of it host memory has.
    """

    context_tokens: int = 1
    restoring_tokens: float = 0.0
    held_tokens: int = 0
    swapped_tokens: int = 0
