"""A policy that does what a test tells it."""

from dataclasses import dataclass, field

from caesura.policy import (
    Action,
    Keep,
    Plan,
    PolicyDefaults,
    SessionOrder,
    Snapshot,
)
from caesura.policy.reclaim import ReclaimRule


@dataclass
class Obedient(PolicyDefaults):
    """Keeps everything, and carries out `orders` when it is asked next.

    Attributes:
        orders: what it was told and has not done yet.
    """

    name = "obedient"
    order: SessionOrder | None = None

    reclaim: ReclaimRule = field(default_factory=ReclaimRule)
    orders: list[Action] = field(default_factory=list)

    def plan(self, snapshot: Snapshot) -> Plan:
        if snapshot.demand is not None:
            return Plan(self.reclaim.releases(snapshot, snapshot.demand))
        kept = [Keep(p.id) for p in snapshot.pauses.undecided()]
        orders, self.orders = self.orders, []
        return Plan([*kept, *orders], review_seconds=snapshot.now_seconds)
