"""A policy that decides at random and keeps changing its mind: every decision must be harmless."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from caesura.policy import (
    Action,
    AttainedService,
    CopyAhead,
    CopyOut,
    CostModel,
    Drop,
    DropCopy,
    Expire,
    Keep,
    OriginalArrival,
    PauseView,
    Plan,
    Prefetch,
    SessionOrder,
    Snapshot,
)
from caesura.policy.reclaim import ReclaimRule


@dataclass
class Chaos:
    """Any disposition, whole or in part, changed at any time; the reclaim rule under demand.

    Attributes:
        seed: decides.
        restless: part of the pauses that are decided again at each review.
        review_scale: factor on the times between reviews.
        order: as in `Policy`: any, by the seed.
    """

    name = "chaos"

    reclaim: ReclaimRule = field(default_factory=ReclaimRule)
    seed: float = 0
    restless: float = 0.3
    review_scale: float = 1.0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        orders = (OriginalArrival(), AttainedService(0.01, 0.05), AttainedService(0.1, None))
        self.order: SessionOrder | None = self._rng.choice((None, *orders))

    def copies_given_up(
        self, snapshot: Snapshot, tokens: int, pause: PauseView | None
    ) -> Iterable[str]:
        return [other.id for other in snapshot.pauses if self._rng.random() < 0.3]

    def expected_seconds(self, endpoint: str) -> float | None:
        return None

    def ended(self, endpoint: str, elapsed_seconds: float, *, returned: bool) -> None:
        assert elapsed_seconds >= 0

    def not_gone(self, endpoint: str, elapsed_seconds: float) -> None:
        assert elapsed_seconds >= 0

    def resumed(self, waited_seconds: float, *, held: bool) -> None:
        assert waited_seconds >= 0

    def iteration_tokens(self) -> int | None:
        return self._rng.choice((None, 24, 48))

    def saves_contexts(self, costs: CostModel) -> bool:
        return self._rng.random() < 0.7

    def plan(self, snapshot: Snapshot) -> Plan:
        """Decide about some pauses, and say when to be asked again."""
        if snapshot.demand is not None:
            return Plan(self.reclaim.releases(snapshot, snapshot.demand))
        undecided = list(snapshot.pauses.undecided())
        chosen = [pause for pause in undecided if self._rng.random() < 0.9]
        chosen += [pause for pause in snapshot.pauses if self._rng.random() < self.restless]
        review_after = self._rng.choice((0.0, 0.02, 0.3, 3.0)) * self.review_scale
        actions = [self._decide(pause) for pause in chosen]
        return Plan(actions, snapshot.now_seconds + review_after)

    def _decide(self, pause: PauseView) -> Action:
        kind = self._rng.choices(
            (Keep, CopyAhead, Prefetch, CopyOut, Drop, Expire, DropCopy), (3, 2, 3, 6, 5, 1, 1)
        )[0]
        if kind is not Drop:
            return kind(pause.id)
        keep_tokens = 0
        if self._rng.random() < 0.5:
            keep_tokens = self._rng.randint(0, max(1, pause.context_tokens))
        return Drop(pause.id, keep_tokens, forget=self._rng.random() < 0.4)


@dataclass
class BackAndForth(Chaos):
    """Contexts leave the device and come back before their sessions, as long as anything runs."""

    name = "back-and-forth"

    def plan(self, snapshot: Snapshot) -> Plan:
        if snapshot.demand is not None:
            return super().plan(snapshot)
        if not snapshot.load.running_requests:
            return Plan([Keep(p.id) for p in snapshot.pauses.undecided()])
        return replace(super().plan(snapshot), review_seconds=snapshot.now_seconds)

    def _decide(self, pause: PauseView) -> Action:
        if self._rng.random() < 0.1:
            return super()._decide(pause)
        if pause.loadable_tokens > pause.held_tokens:
            return Prefetch(pause.id)
        if not pause.copy_requested:
            return CopyAhead(pause.id)
        keep_tokens = self._rng.choice((0, 0, pause.held_tokens // 2))
        forget = self._rng.random() < 0.9
        return Drop(pause.id, keep_tokens, forget)
