"""The order of InferCept's three queues: running, swapped, waiting (section 4.4)."""

from dataclasses import dataclass
from typing import ClassVar

from caesura.policy.order import UNKNOWN_TURN, OrderDefaults
from caesura.policy.service import Service, Turn

AHEAD_SECONDS = 1e9
"""Earlier than any session arrives."""


@dataclass(frozen=True, slots=True)
class ThreeQueues(OrderDefaults):
    """First come, first served by original arrival, in each of the published queues.

    Returning sessions whose context is in host memory are a queue of their own, before the one of
    those that wait to be computed: their loads do not wait behind a prompt that does not fit.
    Requests that run go before both in any case. A session keeps the place that it had in its
    queue among those that run, so that one that was swapped in is preempted after the others.
    """

    ranks_everyone: ClassVar[bool] = False
    displacement_margin_seconds: ClassVar[float | None] = None

    def rank(self, service: Service, turn: Turn = UNKNOWN_TURN) -> float:
        """The original arrival, or long before it."""
        return service.arrival_seconds - (AHEAD_SECONDS if turn.swapped_tokens else 0.0)
