"""A policy that decides at random, for tests: every decision must be harmless."""

import random
from dataclasses import dataclass, field

from caesura.policy import Action, CostModel, Disposition, PauseView, Plan, Snapshot
from caesura.policy.reclaim import ReclaimRule


@dataclass
class Chaos:
    """Any disposition, whole or in part, changed at any time; the reclaim rule under demand.

    Attributes:
        seed: decides.
        restless: part of the pauses that are decided again at each review.
        original_arrival: as in `Policy`.
    """

    name = "chaos"

    reclaim: ReclaimRule = field(default_factory=ReclaimRule)
    seed: float = 0
    restless: float = 0.3
    original_arrival: bool = True

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def saves_preempted(self, costs: CostModel) -> bool:
        return self._rng.random() < 0.7

    def plan(self, snapshot: Snapshot) -> Plan:
        """Decide about some pauses, and say when to be asked again."""
        if snapshot.demand is not None:
            return Plan(self.reclaim.releases(snapshot, snapshot.demand))
        undecided = list(snapshot.pauses.undecided())
        chosen = [pause for pause in undecided if self._rng.random() < 0.9]
        chosen += [pause for pause in snapshot.pauses if self._rng.random() < self.restless]
        review_seconds = snapshot.now_seconds + self._rng.choice((0.0, 0.02, 0.3, 3.0))
        return Plan([self._decide(pause) for pause in chosen], review_seconds)

    def _decide(self, pause: PauseView) -> Action:
        disposition = self._rng.choice(list(Disposition))
        keep_tokens = 0
        if self._rng.random() < 0.5:
            keep_tokens = self._rng.randint(0, max(1, pause.context_tokens))
        return Action(
            pause.id,
            disposition,
            keep_tokens=keep_tokens,
            forget=self._rng.random() < 0.4,
            expired=self._rng.random() < 0.2,
        )
