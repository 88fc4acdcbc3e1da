"""The oracle of the order of service: how many tokens each session will generate is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

from caesura.engine.scheduler import InterceptScheduler
from caesura.lab.sim.virtual_replay import TURN_MARK
from caesura.policy import ExpectedWork, Service, Turn
from caesura.policy.remaining import Distribution, RemainingTokens


@dataclass(slots=True)
class _KnownTokens(RemainingTokens):
    """Of the request that is ranked."""

    totals: Mapping[str, int] = field(default_factory=dict)
    session: str = ""

    @property
    def confidence(self) -> float:
        """What is known is right."""
        return 1.0

    @property
    def generation(self) -> int:
        """Nothing is learned."""
        return 0

    def after(self, service: Service) -> Distribution:
        """The one number of tokens that the session will still generate."""
        left = self.totals[self.session] - service.output_tokens
        return Distribution(np.array([max(1.0, float(left))]), np.ones(1))


def know_work(scheduler: Scheduler, totals: Mapping[str, int]) -> None:
    """Let sessions be ranked by the work that they really have ahead of them.

    Everything else of the order, and of the policy, is as it is: what a run loses to this one is
    what it loses because it has to guess.

    Args:
        scheduler: one whose policy serves by `ExpectedWork`.
        totals: tokens that each session will have generated at its end, by name.

    Raises:
        ValueError: the policy serves in another order.
    """
    ranks = scheduler.ranks if isinstance(scheduler, InterceptScheduler) else None
    order = None if ranks is None else ranks.order
    if ranks is None or not isinstance(order, ExpectedWork):
        raise ValueError(
            "known work takes the place of expected work: leave served_by=work as it is"
        )
    known = _KnownTokens(totals=totals)
    turn_of = ranks.turn_of

    def turn(request: Request) -> Turn:
        # What a session in place, or a turn of one, is called.
        name = request.request_id
        known.session = name if name in totals else name.rpartition(TURN_MARK)[0]
        return turn_of(request)

    order.remaining, ranks.turn_of = known, turn
