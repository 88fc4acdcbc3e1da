"""In which order sessions are served: who waits, and who is preempted."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol

from caesura.policy.costs import CostModel
from caesura.policy.remaining import RemainingTokens, gittins_index
from caesura.policy.service import Service, Turn

UNKNOWN_TURN = Turn()
"""A turn of which nothing is known but its session."""


class SessionOrder(Protocol):
    """Ranks sessions: the lowest rank is served first.

    Attributes:
        ranks_everyone: requests that never paused are ranked too, as soon as any session
            pauses; else they keep the places that vLLM gives them.
        displacement_margin_seconds: a running request makes room for a waiting one whose rank
            is lower by more than this, if its context can be copied out; None for never.
        promoted_share: share of device memory for those that have waited for longest, whatever
            their rank; 0 for none.
    """

    @property
    def promoted_share(self) -> float:
        """See above."""

    @property
    def ranks_everyone(self) -> bool:
        """See above."""

    @property
    def displacement_margin_seconds(self) -> float | None:
        """See above."""

    def rank(self, service: Service, turn: Turn = UNKNOWN_TURN) -> float:
        """A time on the clock of arrivals.

        It is asked for when a request comes into a queue, and stays the same while it waits,
        until the order is of another generation.
        """

    @property
    def generation(self) -> int:
        """Changes when so much was learned that those who wait are to be ranked anew; rarely."""

    def ended(self, service: Service) -> None:
        """A session is over, having had all this."""

    def not_ended(self, service: Service) -> None:
        """A session of which that was said goes on after all."""


class OrderDefaults:
    """Of an order that learns nothing."""

    promoted_share: ClassVar[float] = 0.0
    generation: ClassVar[int] = 0

    def ended(self, service: Service) -> None:
        """Nothing is learned from it."""

    def not_ended(self, service: Service) -> None:
        """Nothing was learned from it."""


@dataclass(frozen=True, slots=True)
class OriginalArrival(OrderDefaults):
    """First come, first served by the arrival of the session (InferCept, section 4.4)."""

    ranks_everyone: ClassVar[bool] = False
    displacement_margin_seconds: ClassVar[float | None] = None

    def rank(self, service: Service, turn: Turn = UNKNOWN_TURN) -> float:
        """The original arrival."""
        return service.arrival_seconds


@dataclass(frozen=True, slots=True)
class AttainedService(OrderDefaults):
    """Least attained service first, per session, with a bounded handicap.

    A session's rank is the time at which it arrived, not counting its pauses, plus a handicap for
    every token generated for it (as for programs in Autellix, arXiv 2502.13965, section 4).
    Because the handicap grows with the service, newer sessions overtake an older one for no
    longer than that, so none waits for ever. Tokens with a heavy context count less
    (`Service.weighted_tokens`), since putting such a context aside takes longer.

    Attributes:
        handicap_seconds: per generated token of a light context. 0 is first come first served.
        displacement_margin_seconds: see `SessionOrder`.
    """

    ranks_everyone: ClassVar[bool] = True

    handicap_seconds: float = 1.0
    displacement_margin_seconds: float | None = 20.0

    def rank(self, service: Service, turn: Turn = UNKNOWN_TURN) -> float:
        """Arrival without pauses, plus the handicap."""
        active_since = service.arrival_seconds + service.paused_seconds
        return active_since + self.handicap_seconds * service.weighted_tokens


@dataclass(slots=True)
class _Mean:
    """Of the latest thousand or so values, at least 1."""

    mean: float = 1.0
    _count: int = 0

    def see(self, value: float) -> None:
        self._count = min(self._count + 1, 1000)
        self.mean += (max(1.0, value) - self.mean) / self._count


@dataclass(slots=True)
class ExpectedWork:
    """Least expected remaining work first, learned from the sessions that are over.

    A session's rank is the time at which it arrived, not counting its pauses, plus a handicap for
    every token of its Gittins index (`gittins_index`): sessions that will probably be over soon,
    and take little memory until then, go first. Until anything is known the rank is the original
    arrival, first come, first served; what was learned counts the more, the more sessions are over
    (`RemainingTokens.confidence`).

    Attributes:
        handicap_seconds: per token of the index. 0 is first come, first served, without pauses.
        displacement_margin_seconds, promoted_share: see `SessionOrder`.
        remaining: what was learned.
    """

    ranks_everyone: ClassVar[bool] = True

    handicap_seconds: float = 1.0
    displacement_margin_seconds: float | None = 20.0
    promoted_share: float = 0.05
    remaining: RemainingTokens = field(default_factory=RemainingTokens)
    _contexts: _Mean = field(default_factory=_Mean, init=False)
    _mean_context_tokens: float = field(default=1.0, init=False)

    def rank(self, service: Service, turn: Turn = UNKNOWN_TURN) -> float:
        """See the class. What a context holds on the device is taken whether its session is served
        or waits: only the memory that it takes beside that is work."""
        self._contexts.see(turn.context_tokens)
        index = gittins_index(
            self.remaining.after(service),
            service.output_tokens,
            max(0, turn.context_tokens - turn.held_tokens),
            turn.restoring_tokens,
            self._mean_context_tokens,
        )
        later = service.paused_seconds + self.handicap_seconds * index
        return service.arrival_seconds + self.remaining.confidence * later

    @property
    def generation(self) -> int:
        """See `RemainingTokens.generation`."""
        return self.remaining.generation

    def ended(self, service: Service) -> None:
        """Learn how much a session generated after each of its stages."""
        self.remaining.observe(service)
        # Only now, so that equal sessions that come one after the other have equal ranks.
        self._mean_context_tokens = self._contexts.mean

    def not_ended(self, service: Service) -> None:
        """Unlearn it."""
        self.remaining.take_back(service)


class ServedBy(StrEnum):
    """What sessions are ranked by."""

    ARRIVAL = "arrival"
    """`OriginalArrival`."""
    SERVICE = "service"
    """`AttainedService`."""
    WORK = "work"
    """`ExpectedWork`."""

    def order(self) -> SessionOrder:
        """The order with its defaults, in which nobody is displaced."""
        match self:
            case ServedBy.ARRIVAL:
                return OriginalArrival()
            case ServedBy.SERVICE:
                return AttainedService(displacement_margin_seconds=None)
            case ServedBy.WORK:
                return ExpectedWork(displacement_margin_seconds=None)


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
