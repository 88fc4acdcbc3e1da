"""A policy that decides at random and keeps changing its mind. Runs in the engine's process."""

import dataclasses
import random
from collections.abc import Iterable
from typing import ClassVar

from caesura.policy import (
    Action,
    AttainedService,
    CostModel,
    Disposition,
    PauseView,
    Plan,
    SessionOrder,
    Snapshot,
)
from caesura.policy.reclaim import ReclaimRule


@dataclasses.dataclass
class ChaosPolicy:
    """Any disposition for any pause at any time, also in part; the usual rule under demand."""

    name: ClassVar[str] = "chaos"
    order: ClassVar[SessionOrder] = AttainedService(0.01, 0.05)

    reclaim: ReclaimRule = dataclasses.field(default_factory=ReclaimRule)
    seed: float = 0
    review_after_seconds: float = 0.01

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def copies_given_up(
        self, snapshot: Snapshot, tokens: int, pause: PauseView | None
    ) -> Iterable[str]:
        return [other.id for other in snapshot.pauses if self._random.random() < 0.3]

    def expected_seconds(self, endpoint: str) -> float | None:
        return None

    def ended(self, endpoint: str, elapsed_seconds: float, *, returned: bool) -> None:
        assert elapsed_seconds >= 0

    def iteration_tokens(self, costs: CostModel) -> int | None:
        return self._random.choice((None, 24, 48))

    def saves_contexts(self, costs: CostModel) -> bool:
        return self._random.random() < 0.7

    def plan(self, snapshot: Snapshot) -> Plan:
        if snapshot.demand is not None:
            return Plan(self.reclaim.releases(snapshot, snapshot.demand))
        actions = []
        for pause in list(snapshot.pauses):
            if pause.disposition is None or self._random.random() < 0.2:
                actions.append(self._decide(pause.id, pause.held_tokens))
        review_after = self._random.random() * self.review_after_seconds
        return Plan(actions, snapshot.now_seconds + review_after)

    def _decide(self, pause_id: str, held_tokens: int) -> Action:
        disposition = self._random.choice(list(Disposition))
        return Action(
            pause_id,
            disposition,
            keep_tokens=self._random.choice([0, 0, held_tokens // 2]),
            forget=self._random.random() < 0.3,
        )
