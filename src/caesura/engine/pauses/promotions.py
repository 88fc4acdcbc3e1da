"""A share of device memory that serves whoever has waited for longest.

An order by expected work may let a large session wait for as long as small ones keep coming.
So that nobody does, the request that has waited for longest is *promoted*, before all others,
whenever promoted requests have less than a share of device memory. Promoted requests are served
first come, first served, as by an engine with that share of the memory: a request that would wait
`t` seconds there waits no longer than `t` here, however many others come.
"""

from dataclasses import dataclass

from vllm.v1.core.sched.scheduler import Scheduler

from caesura.engine.pauses.ranks import RankedQueue, SessionRanks
from caesura.engine.pauses.snapshots import Snapshots


@dataclass(slots=True, eq=False)
class Promotions:
    """Promotes requests of one engine."""

    scheduler: Scheduler
    ranks: SessionRanks
    snapshots: Snapshots

    def promote(self) -> None:
        """Promote the request that has waited for longest, if promoted ones have room for it."""
        order, oldest = self.ranks.order, self.ranks.longest_waiting()
        if order is None or oldest is None or not order.promoted_share:
            return
        queues = (self.scheduler.waiting, self.scheduler.kv_holding_waiting)
        if any(queue and queue.peek_request() is oldest for queue in queues):
            return
        promoted = self.ranks.promoted()
        room = order.promoted_share * self.snapshots.device_memory().total_tokens
        if oldest in promoted or sum(request.num_tokens for request in promoted) >= room:
            return
        self.ranks.promote(oldest)
        for queue in queues:
            if isinstance(queue, RankedQueue) and oldest in queue:
                queue.move_to_rank(oldest)
