"""A policy that does what a test tells it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from caesura.policy import (
    Action,
    AttainedService,
    CostModel,
    Demand,
    Keep,
    PauseView,
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


@dataclass
class Saving(Obedient):
    """Copies out what gives way, and lets sessions that had little displace others.

    Attributes:
        given_up: the pauses whose copies are given up when host memory is full.
        limit: tokens per iteration at most, while sessions pause.
    """

    name = "saving"
    order: SessionOrder | None = field(default_factory=lambda: AttainedService(1.0, 2.0))
    given_up: list[str] = field(default_factory=list)
    limit: int | None = None

    def iteration_tokens(self) -> int | None:
        return self.limit

    def saves_contexts(self, costs: CostModel) -> bool:
        return True

    def copies_given_up(
        self, snapshot: Snapshot, tokens: int, pause: PauseView | None
    ) -> Iterable[str]:
        return self.given_up


@dataclass
class Asked(Obedient):
    """Answers demands as a test says.

    Attributes:
        answer: what to do for a demand.
        demands: those that it was asked about.
    """

    name = "asked"
    answer: Callable[[Demand], list[Action]] = lambda demand: []
    demands: list[Demand] = field(default_factory=list)

    def plan(self, snapshot: Snapshot) -> Plan:
        if snapshot.demand is None:
            return super().plan(snapshot)
        self.demands.append(snapshot.demand)
        return Plan(iter(self.answer(snapshot.demand)))
