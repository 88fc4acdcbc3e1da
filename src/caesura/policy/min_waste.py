"""Least waste across all requests: the default policy.

Every second that a context is held takes memory from those who wait, and every context that
is dropped takes computation from those who run. Both are counted in *request-seconds*: one
request that waits one second longer.

* **Regret** of releasing a hold, per token and second of memory that it frees: what restoring
  the context will cost, if its session comes back, over the time for which the memory is free,

      regret = p_return * (a * (R + W + 1) * lost + l * copied) / (held * expected remaining)

  with `a` seconds per recomputed token, which delay the session, the `R` running requests
  (InferCept's equation (1) in request-seconds), and the `W` waiting ones, for which memory is
  freed so much later; and `l` seconds per token loaded from host memory, which delay the session
  alone. `lost` counts computation, `held` and `copied` count memory; with full attention alone
  both are tokens of the context (`PauseView.memory_tokens`).
* **Price** of memory: with `W` requests waiting for `M` tokens of memory, one more token for
  one second brings each of them forward by `1 / M` seconds,

      price = W / M

A waiting request may break a hold whose regret is below the price. For a context without a copy
this reads `expected remaining > p_return * a * M * (R + W + 1) / W`: the published break-even
(about `a * M`, preserve against discard with the batch's memory as the others' context) and more
while few wait. While hardly anyone waits holds are kept for long; when the queue grows, they are
kept for the published break-even. Nothing here is a constant factor.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from caesura.policy.costs import CostModel
from caesura.policy.duration import DurationModel
from caesura.policy.order import (
    AttainedService,
    ExpectedWork,
    OriginalArrival,
    ServedBy,
    SessionOrder,
)
from caesura.policy.prefetch import PrefetchRule
from caesura.policy.progress import remaining_with_progress
from caesura.policy.reclaim import ReclaimRule, release
from caesura.policy.types import (
    Action,
    CopyAhead,
    Demand,
    Drop,
    DropCopy,
    Keep,
    PauseView,
    Plan,
    PolicyDefaults,
    Snapshot,
)

COPY_AHEAD_SHARE = 0.25
"""Share of device memory, next in line to be released, that is copied ahead."""


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A pause with its regrets, as they were when it was ranked.

    Attributes:
        regret: of releasing its hold now.
        regret_uncopied: the same if it had no copy: what a copy in host memory is worth.
    """

    regret: float
    regret_uncopied: float
    pause: PauseView


@dataclass
class MinWaste(PolicyDefaults):
    """See the module. Learns durations and returns per endpoint while it runs.

    Attributes:
        served_by: in which order sessions are served: "work" (`ExpectedWork`), "service"
            (`AttainedService`) or "arrival" (`OriginalArrival`).
        handicap_seconds: of the first two.
        displacement_margin_seconds: of the first two; a negative one turns displacement off.
        promoted_share: of `ExpectedWork`.
        rank_every_seconds: how long a ranking of all pauses is used.
        review_every_seconds: how often copies and loads ahead are planned.
        prefetch: 1 to load contexts ahead of their sessions, 0 not to.
        prefetch_ahead_seconds, prefetch_probability: of `PrefetchRule`.
        starvation_seconds: after waiting this long a request may break any hold.
    """

    name: ClassVar[str] = "min-waste"

    served_by: ServedBy = ServedBy.WORK
    handicap_seconds: float = 1.0
    displacement_margin_seconds: float = 20.0
    promoted_share: float = 0.05
    rank_every_seconds: float = 0.25
    review_every_seconds: float = 0.05
    prefetch: float = 1.0
    prefetch_ahead_seconds: float = 60.0
    prefetch_probability: float = 0.1
    starvation_seconds: float = ReclaimRule().starvation_seconds

    def __post_init__(self) -> None:
        margin = self.displacement_margin_seconds
        margin_seconds = margin if margin >= 0 else None
        self.order: SessionOrder
        match self.served_by:
            case ServedBy.ARRIVAL:
                self.order = OriginalArrival()
            case ServedBy.SERVICE:
                self.order = AttainedService(self.handicap_seconds, margin_seconds)
            case ServedBy.WORK:
                self.order = ExpectedWork(
                    self.handicap_seconds, margin_seconds, self.promoted_share
                )
        self.durations = DurationModel()
        self._ranking: list[_Ranked] = []  # with a hold, least regret first
        self._copied: list[_Ranked] = []  # with a copy, least worth first
        self._prefetches = PrefetchRule(
            max(self.review_every_seconds, self.prefetch_ahead_seconds),
            self.prefetch_probability,
            self.rank_every_seconds,
        )
        self._ranked_seconds = float("-inf")

    def saves_contexts(self, costs: CostModel) -> bool:
        """If copying takes less time than computing: both delay the whole batch."""
        return costs.copying_pays()

    def expected_seconds(self, endpoint: str) -> float | None:
        """The mean, as learned so far."""
        return self.durations.expected_remaining_seconds(endpoint, 0.0)

    def ended(self, endpoint: str, elapsed_seconds: float, *, returned: bool) -> None:
        """Learn how long pauses last, and whether they end."""
        if returned:
            self.durations.observe(endpoint, elapsed_seconds)
        else:
            self.durations.observe_gone(endpoint, elapsed_seconds)

    def not_gone(self, endpoint: str, elapsed_seconds: float) -> None:
        """Unlearn it."""
        self.durations.forget_gone(endpoint, elapsed_seconds)

    def plan(self, snapshot: Snapshot) -> Plan:
        """Keep new pauses, and copy those ahead that are released next; or meet a demand."""
        if snapshot.demand is not None:
            return Plan(self._releases(snapshot, snapshot.demand))
        actions: list[Action] = [Keep(pause.id) for pause in snapshot.pauses.undecided()]
        review_seconds = None
        if snapshot.host.total_tokens and len(snapshot.pauses):
            review_seconds = snapshot.now_seconds + self.review_every_seconds
            actions += self._copies_ahead(snapshot)
            if self.prefetch:
                actions += self._prefetches.loads(snapshot, self.durations)
        return Plan(actions, review_seconds)

    def copies_given_up(
        self, snapshot: Snapshot, tokens: int, pause: PauseView | None
    ) -> Iterable[str]:
        """Those that are worth less; a request that waits to go on is worth any of them."""
        self._ranked(snapshot)
        worth = float("inf") if pause is None else self._rank(pause, snapshot).regret_uncopied
        return [other.id for other in self._less_worth(worth, tokens)]

    # Releases

    def price(self, snapshot: Snapshot) -> float:
        """Request-seconds per token-second of device memory."""
        return snapshot.load.waiting_requests / max(1, snapshot.device.total_tokens)

    def _releases(self, snapshot: Snapshot, demand: Demand) -> Iterator[Action]:
        starving = demand.waited_seconds >= self.starvation_seconds
        if demand.running or demand.engine_idle or starving:
            return self._everything(snapshot)
        price = self.price(snapshot)
        chosen: list[Action] = []
        missing = demand.tokens
        for ranked in self._ranked(snapshot):
            if ranked.regret >= price:
                break
            pause = ranked.pause
            if pause.returning or pause.id == demand.request_id:
                continue
            freeable = pause.freeable_tokens()
            if freeable <= 0:
                continue
            chosen.append(release(pause, missing))
            missing -= freeable
            if missing <= 0:
                return iter(chosen)
        return iter(())

    def _everything(self, snapshot: Snapshot) -> Iterator[Action]:
        """All holds: ranked ones by regret, then new ones, then those of returning sessions."""
        taken = set()
        for ranked in self._ranked(snapshot):
            if not ranked.pause.returning and ranked.pause.held_tokens:
                taken.add(ranked.pause.id)
                yield Drop(ranked.pause.id)
        rest = [p for p in snapshot.pauses.held_latest_arrival_first() if p.id not in taken]
        for pause in sorted(rest, key=lambda pause: pause.returning):
            yield Drop(pause.id)

    # Ranking

    def _ranked(self, snapshot: Snapshot) -> list[_Ranked]:
        """Holds by regret; ranked anew now and then, since that looks at every pause."""
        if snapshot.now_seconds - self._ranked_seconds >= self.rank_every_seconds:
            self._ranked_seconds = snapshot.now_seconds
            ranking = [
                self._rank(pause, snapshot)
                for pause in snapshot.pauses
                if pause.held_tokens or pause.copied_tokens
            ]
            self._ranking = [ranked for ranked in ranking if ranked.pause.held_tokens]
            self._ranking.sort(key=lambda ranked: ranked.regret)
            self._copied = [ranked for ranked in ranking if ranked.pause.copied_tokens]
            self._copied.sort(key=lambda ranked: ranked.regret_uncopied)
        return self._ranking

    def _rank(self, pause: PauseView, snapshot: Snapshot) -> _Ranked:
        elapsed = snapshot.now_seconds - pause.endpoint_since_seconds
        remaining = self.durations.expected_remaining_seconds(pause.endpoint, elapsed)
        if pause.progress is not None:
            remaining = remaining_with_progress(remaining, elapsed, pause.progress)
        returns = self.durations.return_probability(pause.endpoint, _known_absence(pause, elapsed))
        load = snapshot.load
        delayed = load.running_requests + load.waiting_requests + 1
        compute = snapshot.costs.seconds_per_token * delayed
        held = max(1, pause.held_tokens)
        copied = min(pause.copied_tokens, held)
        load_seconds = snapshot.costs.seconds_per_copied_token * pause.memory_tokens(copied)
        restore = compute * (held - copied) + load_seconds
        scale = returns / max(remaining, 1e-6)
        freed = max(1, pause.memory_tokens(held))
        return _Ranked(scale * restore / freed, scale * compute * (held / freed), pause)

    # Copies

    def _copies_ahead(self, snapshot: Snapshot) -> list[Action]:
        """Copy what is released next, as far as the link is idle and host memory lasts."""
        room = snapshot.load.copy_budget_tokens - snapshot.load.link_backlog_tokens
        device = snapshot.device
        short = device.free_tokens < COPY_AHEAD_SHARE * device.total_tokens
        if room <= 0 or not (snapshot.load.waiting_requests > 0 or short):
            return []
        actions: list[Action] = []
        dropped: set[str] = set()
        ahead = COPY_AHEAD_SHARE * device.total_tokens
        free = snapshot.host.free_tokens
        for ranked in self._ranked(snapshot):
            pause = ranked.pause
            if pause.returning or not pause.held_tokens:
                continue
            held = pause.memory_tokens(pause.held_tokens)
            ahead -= held
            if not pause.copy_requested:
                if held > free:
                    lacking = held - free
                    drops = self._less_worth(ranked.regret_uncopied, lacking, dropped)
                    if not drops:
                        continue
                    for other in drops:
                        actions.append(DropCopy(other.id))
                        dropped.add(other.id)
                        free += other.memory_tokens(other.copied_tokens)
                actions.append(CopyAhead(pause.id))
                free -= held
                room -= held
            if ahead <= 0 or room <= 0:
                break
        return actions

    def _less_worth(
        self, worth: float, lacking_tokens: int, dropped: Collection[str] = ()
    ) -> list[PauseView]:
        """Whose copies to give up for one that is worth more, least worth first, besides those
        that are dropped already; none if too few."""
        drops = []
        for other in self._copied:
            if 2 * other.regret_uncopied >= worth:
                break
            pause = other.pause
            if pause.returning or not pause.copied_tokens or pause.id in dropped:
                continue
            drops.append(pause)
            lacking_tokens -= pause.memory_tokens(pause.copied_tokens)
            if lacking_tokens <= 0:
                return drops
        return []


def _known_absence(pause: PauseView, elapsed_seconds: float) -> float:
    """For how long its session has been away, as far as others are comparable: nothing has been
    seen of those that stayed away after they were presumed to be gone."""
    gone_after = pause.gone_after_seconds
    return elapsed_seconds if gone_after is None else min(elapsed_seconds, gone_after / 2)
