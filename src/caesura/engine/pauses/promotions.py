"""A share of device memory that serves whoever has waited for longest.

An order by expected work may let a large session wait for as long as small ones keep coming.
So that nobody does, the request that has waited for longest is *promoted*, before all others,
whenever promoted requests have had less than a share of device memory, over time: what they
hold is charged in token-seconds, and a share of all token-seconds is credited. Promoted requests
are served first come, first served, as by an engine with that share of the memory: a request
that would wait `t` seconds there waits no longer than `t` here, however many others come.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from vllm.v1.core.sched.scheduler import Scheduler

from caesura.engine.pauses.ranks import RankedQueue, SessionRanks
from caesura.engine.pauses.snapshots import Snapshots


@dataclass(slots=True, eq=False)
class Promotions:
    """Promotes requests of one engine."""

    scheduler: Scheduler
    ranks: SessionRanks
    snapshots: Snapshots
    clock: Callable[[], float]
    _credit: float = field(default=0.0, init=False)  # token-seconds, at most 0
    _credited_seconds: float | None = field(default=None, init=False)

    def promote(self) -> None:
        """Promote the request that has waited for longest, if promoted ones have had less than
        their share."""
        order, oldest = self.ranks.order, self.ranks.longest_waiting()
        if order is None or not order.promoted_share:
            return
        self._settle(order.promoted_share)
        if oldest is None or self._credit < 0 or oldest in self.ranks.promoted():
            return
        queues = (self.scheduler.waiting, self.scheduler.kv_holding_waiting)
        if any(queue and queue.peek_request() is oldest for queue in queues):
            return
        self.ranks.promote(oldest)
        for queue in queues:
            if isinstance(queue, RankedQueue) and oldest in queue:
                queue.move_to_rank(oldest)

    def _settle(self, share: float) -> None:
        """Credit the share of all memory, and charge what promoted requests held."""
        now = self.clock()
        elapsed = 0.0 if self._credited_seconds is None else now - self._credited_seconds
        self._credited_seconds = now
        total = self.snapshots.device_memory().total_tokens
        held = sum(request.num_computed_tokens for request in self.ranks.promoted())
        self._credit = min(0.0, self._credit + (share * total - held) * elapsed)
