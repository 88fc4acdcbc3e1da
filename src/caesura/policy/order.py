"""In which order sessions are served: who waits, and who is preempted."""

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

from caesura.policy.costs import CostModel

LIGHT_CONTEXT_TOKENS = 1000
"""Putting a context up to this size aside and restoring it costs next to nothing."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a session has had so far.

    Attributes:
        arrival_seconds: original arrival of the session.
        paused_seconds: time that it has spent in pauses, when it wanted nothing.
        output_tokens: tokens generated for it, those with a heavy context counted less: with `n`
            times `LIGHT_CONTEXT_TOKENS`, a token counts `1 / n`.
    """

    arrival_seconds: float
    paused_seconds: float = 0.0
    output_tokens: float = 0.0

    def paused(self, seconds: float) -> Self:
        """The same after a pause."""
        return replace(self, paused_seconds=self.paused_seconds + seconds)

    def served(self, output_tokens: int, context_tokens: int) -> Self:
        """The same after tokens were generated with a context of this size."""
        weight = LIGHT_CONTEXT_TOKENS / max(LIGHT_CONTEXT_TOKENS, context_tokens)
        return replace(self, output_tokens=self.output_tokens + weight * output_tokens)


class SessionOrder(Protocol):
    """Ranks sessions: the lowest rank is served first.

    Attributes:
        ranks_everyone: requests that never paused are ranked too, as soon as any session
            pauses; else they keep the places that vLLM gives them.
        displacement_margin_seconds: a running request makes room for a waiting one whose rank
            is lower by more than this, if its context can be copied out; None for never.
    """

    @property
    def ranks_everyone(self) -> bool:
        """See above."""

    @property
    def displacement_margin_seconds(self) -> float | None:
        """See above."""

    def rank(self, service: Service) -> float:
        """A time on the clock of arrivals; must not decrease while the session is served."""


@dataclass(frozen=True, slots=True)
class OriginalArrival:
    """First come, first served by the arrival of the session (InferCept, section 4.4)."""

    ranks_everyone: ClassVar[bool] = False
    displacement_margin_seconds: ClassVar[float | None] = None

    def rank(self, service: Service) -> float:
        """The original arrival."""
        return service.arrival_seconds


@dataclass(frozen=True, slots=True)
class AttainedService:
    """Least attained service first, per session, with a bounded handicap.

    A session's rank is the time at which it arrived, not counting its pauses, plus a handicap for
    every token generated for it (as for programs in Autellix, arXiv 2502.13965, section 4).
    Because the handicap grows with the service, newer sessions overtake an older one for no
    longer than that, so none waits for ever. Tokens with a heavy context count less
    (`Service.output_tokens`), since putting such a context aside takes longer.

    Attributes:
        handicap_seconds: per generated token of a light context. 0 is first come first served.
        displacement_margin_seconds: see `SessionOrder`.
    """

    ranks_everyone: ClassVar[bool] = True

    handicap_seconds: float = 1.0
    displacement_margin_seconds: float | None = 20.0

    def rank(self, service: Service) -> float:
        """Arrival without pauses, plus the handicap."""
        active_since = service.arrival_seconds + service.paused_seconds
        return active_since + self.handicap_seconds * service.output_tokens


def displacement_pays(
    turn_tokens: int, context_tokens: int, running_requests: int, costs: CostModel
) -> bool:
    """Whether a running request should make room for one that ranks far before it.

    In request-seconds: copying its context out and in again delays the running requests by
    `2 * l * context`. Somebody waits less for as long as it would have gone on generating; a turn
    is expected to last as long as it has lasted.

    Args:
        turn_tokens: tokens that it has generated in this turn.
        context_tokens: its context.
        running_requests: how many run.
        costs: what computing and copying cost.
    """
    copying_seconds = 2 * costs.seconds_per_copied_token * context_tokens
    return turn_tokens * costs.seconds_per_iteration > copying_seconds * running_requests
