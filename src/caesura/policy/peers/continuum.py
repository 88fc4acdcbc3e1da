"""Continuum (CacheTTL): a time to live for every pause (arXiv 2511.02230, v6).

A context is pinned on the device for `tau` seconds (section 4.2, equation (2)):

    tau = argmax P(tau, f) * (T * eta + PrefillReload(r)) - tau

over the durations `tau` that were seen, and 0. The symbols, and what they are here:

| symbol | meaning |
|---|---|
| `P(tau, f)` | share of the calls of tool `f` that took at most `tau` |
| `T` | mean time that sessions whose context had been evicted waited when they came back |
| `eta` | memoryfulness, `-Corr(k, N - k)` of turns had and turns to come (`Memoryfulness`) |
| `PrefillReload(r)` | computing the context again, or loading it where host memory is |

With at most `COLD_START_CALLS` calls of a tool those of all tools are taken; with no more of those
either, `tau` is the optimum for calls of one second in the mean, exponentially distributed, and
`eta = 1`, which is `log(T + PrefillReload)`. `T` is 0 until something was evicted.

Who is served next (section 4.3): sessions that come back to a pinned context, then the others, each
by the arrival of the session. When a request does not fit, pins are broken until it does, those of
the sessions that arrived last first (section 5.2, deadlock prevention).

What differs here: the published order puts preempted requests before all others; here they go to
their place among the sessions. `T` and the durations are of the latest `WINDOW` observations; the
paper says that the window slides, and not how long it is. Where host memory is, what is not pinned
is copied there, as by the offloading that the paper runs with.
"""

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import ClassVar

from caesura.policy.costs import CostModel
from caesura.policy.order import UNKNOWN_TURN, OrderDefaults
from caesura.policy.service import Service, Turn
from caesura.policy.three_queues import AHEAD_SECONDS
from caesura.policy.types import (
    Action,
    CopyOut,
    Demand,
    Drop,
    Expire,
    Keep,
    PauseView,
    Plan,
    PolicyDefaults,
    Snapshot,
)

COLD_START_CALLS = 100
"""`K`: more calls than this are needed before their distribution is used. Published."""

WINDOW = 1000
"""Observations that count, of each kind. Not published."""


class Durations:
    """The latest durations of calls, as an empirical distribution."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, seconds: float) -> None:
        """A call took this long."""
        if len(self._latest) == WINDOW:
            self._sorted.pop(bisect_right(self._sorted, self._latest.popleft()) - 1)
        self._latest.append(seconds)
        insort(self._sorted, seconds)

    def best_ttl_seconds(self, benefit_seconds: float) -> float:
        """`argmax P(tau) * benefit - tau` over the durations and 0; the least of equals."""
        best_seconds = best = 0.0
        for index, seconds in enumerate(self._sorted, 1):
            value = index / len(self._sorted) * benefit_seconds - seconds
            if value > best:
                best_seconds, best = seconds, value
        return best_seconds


@dataclass(slots=True)
class Memoryfulness:
    """`eta`: how well the turns that a session has had tell how many are to come.

    1 where all sessions have equally many turns, 0 where each turn may be the last with the same
    probability; 1 until sessions of different lengths are over.
    """

    _count: int = 0
    _had: float = 0.0
    _left: float = 0.0
    _had_squared: float = 0.0
    _left_squared: float = 0.0
    _product: float = 0.0

    def observe(self, pauses: int) -> None:
        """A session is over after so many pauses, one turn more than that."""
        for had in range(1, pauses + 1):
            left = pauses + 1 - had
            self._count += 1
            self._had += had
            self._left += left
            self._had_squared += had * had
            self._left_squared += left * left
            self._product += had * left

    def factor(self) -> float:
        """`-Corr(k, N - k)` over all turns after which sessions paused."""
        n = self._count
        variances = (n * self._had_squared - self._had**2) * (
            n * self._left_squared - self._left**2
        )
        if variances <= 0:
            return 1.0
        return -(n * self._product - self._had * self._left) / math.sqrt(variances)


@dataclass(slots=True)
class PinnedFirst(OrderDefaults):
    """Sessions that come back to a pinned context, then the others, each by session's arrival."""

    ranks_everyone: ClassVar[bool] = False
    displacement_margin_seconds: ClassVar[float | None] = None

    memoryfulness: Memoryfulness = field(default_factory=Memoryfulness)

    def rank(self, service: Service, turn: Turn = UNKNOWN_TURN) -> float:
        """The original arrival, or long before it."""
        return service.arrival_seconds - (AHEAD_SECONDS if turn.held_tokens else 0.0)

    def ended(self, service: Service) -> None:
        """Learn how many turns sessions have."""
        self.memoryfulness.observe(service.pauses)


@dataclass
class Continuum(PolicyDefaults):
    """See the module. It has no options."""

    name: ClassVar[str] = "continuum"

    def __post_init__(self) -> None:
        self.order = PinnedFirst()
        self._all_calls = Durations()
        self._calls: dict[str, Durations] = {}
        self._waits: deque[float] = deque(maxlen=WINDOW)  # of sessions that were evicted
        self._expiries: list[tuple[float, int, PauseView]] = []  # a heap
        self._pins = 0

    def saves_contexts(self, costs: CostModel) -> bool:
        """Yes: the offloading writes everything through."""
        return True

    def ended(self, endpoint: str, elapsed_seconds: float, *, returned: bool) -> None:
        """Learn how long calls take."""
        if returned:
            self._all_calls.add(elapsed_seconds)
            self._calls.setdefault(endpoint, Durations()).add(elapsed_seconds)

    def resumed(self, waited_seconds: float, *, held: bool) -> None:
        """Learn how long those wait whose context was evicted."""
        if not held:
            self._waits.append(waited_seconds)

    def queueing_seconds(self) -> float:
        """`T`."""
        return sum(self._waits) / len(self._waits) if self._waits else 0.0

    def ttl_seconds(self, endpoint: str, reload_seconds: float) -> float:
        """`tau` for a pause for this endpoint.

        Args:
            endpoint: the tool that is called.
            reload_seconds: `PrefillReload(r)`.
        """
        queueing = self.queueing_seconds()
        if len(self._all_calls) <= COLD_START_CALLS:
            benefit = queueing + reload_seconds
            return math.log(benefit) if benefit > 1 else 0.0
        calls = self._calls.get(endpoint)
        if calls is None or len(calls) <= COLD_START_CALLS:
            calls = self._all_calls
        factor = self.order.memoryfulness.factor()
        return calls.best_ttl_seconds(queueing * factor + reload_seconds)

    def plan(self, snapshot: Snapshot) -> Plan:
        """Pin new pauses, let pins expire; or break pins for a demand."""
        if snapshot.demand is not None:
            return Plan(self._victims(snapshot, snapshot.demand))
        actions: list[Action] = []
        now = snapshot.now_seconds
        while self._expiries and self._expiries[0][0] <= now:
            *_, pause = heappop(self._expiries)
            if pause.held_tokens and not pause.returning:
                actions.append(self._evict(pause, snapshot))
        for pause in snapshot.pauses.undecided():
            seconds = self.ttl_seconds(pause.endpoint, _reload_seconds(pause, snapshot))
            if seconds > 0:
                actions.append(Keep(pause.id))
                self._pins += 1
                heappush(self._expiries, (now + seconds, self._pins, pause))
            else:
                actions.append(self._evict(pause, snapshot))
        return Plan(actions, self._expiries[0][0] if self._expiries else None)

    @staticmethod
    def _evict(pause: PauseView, snapshot: Snapshot) -> Action:
        if snapshot.host.free_tokens >= pause.held_tokens > 0:
            return CopyOut(pause.id)
        return Expire(pause.id)

    @staticmethod
    def _victims(snapshot: Snapshot, demand: Demand) -> Iterator[Action]:
        for pause in snapshot.pauses.held_latest_arrival_first():
            if pause.id != demand.request_id:
                yield Drop(pause.id)


def _reload_seconds(pause: PauseView, snapshot: Snapshot) -> float:
    costs = snapshot.costs
    if snapshot.host.free_tokens >= pause.held_tokens:
        return costs.seconds_per_copied_token * pause.held_tokens
    return costs.forward_seconds(pause.held_tokens)
