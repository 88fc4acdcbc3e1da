"""AsyncLM's rule for the context of a session that waits at a trap (arXiv 2412.07017).

The context is kept if the cheaper way to give it up, copying it out and in again or computing it
again, takes longer than the wait; else it is given up that way. In AsyncLM the wait is known or
estimated; here it is what the session's tools say, or what is learned of their endpoints. Under
pressure holds are broken by `ReclaimRule`, as by all policies that hold.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from caesura.policy import SessionOrder
from caesura.policy.duration import DurationModel
from caesura.policy.order import ServedBy
from caesura.policy.progress import remaining_with_progress
from caesura.policy.reclaim import ReclaimRule
from caesura.policy.types import (
    Action,
    CopyOut,
    Drop,
    Keep,
    PauseView,
    Plan,
    PolicyDefaults,
    Snapshot,
)


@dataclass
class TrapRule(PolicyDefaults):
    """See the module.

    Attributes:
        served_by: in which order sessions are served.
    """

    name: ClassVar[str] = "trap-rule"

    reclaim: ReclaimRule = field(default_factory=ReclaimRule)
    served_by: ServedBy = ServedBy.ARRIVAL

    def __post_init__(self) -> None:
        self._durations = DurationModel()

    @cached_property
    def order(self) -> SessionOrder | None:
        """By original arrival, unless told otherwise."""
        return self.served_by.order()

    def expected_seconds(self, endpoint: str) -> float | None:
        """The mean, as learned so far."""
        return self._durations.expected_remaining_seconds(endpoint, 0.0)

    def ended(self, endpoint: str, elapsed_seconds: float, *, returned: bool) -> None:
        """Learn how long waits are."""
        if returned:
            self._durations.observe(endpoint, elapsed_seconds)

    def plan(self, snapshot: Snapshot) -> Plan:
        """Decide about new pauses, or release what a demand needs."""
        if snapshot.demand is not None:
            return Plan(self.reclaim.releases(snapshot, snapshot.demand))
        return Plan([self._decide(pause, snapshot) for pause in snapshot.pauses.undecided()])

    def _decide(self, pause: PauseView, snapshot: Snapshot) -> Action:
        tokens, costs = pause.context_tokens, snapshot.costs
        computing = costs.forward_seconds(tokens)
        copying = 2 * costs.seconds_per_copied_token * tokens
        may_copy = copying < computing and snapshot.host.free_tokens >= tokens
        if (copying if may_copy else computing) > self._wait_seconds(pause, snapshot.now_seconds):
            return Keep(pause.id)
        return CopyOut(pause.id) if may_copy else Drop(pause.id)

    def _wait_seconds(self, pause: PauseView, now_seconds: float) -> float:
        elapsed = now_seconds - pause.paused_seconds
        learned = self._durations.expected_remaining_seconds(pause.endpoint, elapsed)
        if pause.progress is None:
            return learned
        return remaining_with_progress(learned, elapsed, pause.progress)
