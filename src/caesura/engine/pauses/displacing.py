"""Running and waiting requests that make room for others, and the limit on an iteration."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from caesura.engine.copies.blocks import real_blocks, sole_blocks
from caesura.engine.metrics import PauseMetrics
from caesura.engine.pauses.demands import Demands
from caesura.engine.pauses.keeper import PauseKeeper
from caesura.engine.pauses.parking import Parking
from caesura.engine.pauses.ranks import SessionRanks
from caesura.policy import displacement_pays

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Displacing:
    """Takes blocks from requests that do not pause."""

    scheduler: Scheduler
    keeper: PauseKeeper
    demands: Demands
    parking: Parking
    ranks: SessionRanks
    metrics: PauseMetrics
    clock: Callable[[], float]
    _engine_token_limit: int = field(init=False)

    def __post_init__(self) -> None:
        self._engine_token_limit = self.scheduler.max_num_scheduled_tokens

    def limit_tokens(self) -> None:
        """Apply the policy's limit on an iteration while sessions pause; running ones go on."""
        limit = None
        if len(self.keeper.table) > 0:
            limit = self.keeper.policy.iteration_tokens()
        tokens = self._engine_token_limit
        if limit is not None:
            tokens = min(tokens, max(limit, len(self.scheduler.running) + 1))
        self.scheduler.max_num_scheduled_tokens = tokens

    def displace(self) -> None:
        """Preempt running requests that rank far behind the first waiting one.

        Only if that gives it enough room, and only where copying out what they give up is worth it.
        """
        queue = self.scheduler.kv_holding_waiting or self.scheduler.waiting
        needy = queue.peek_request() if queue else None
        missing = self.demands.missing_blocks(needy.request_id) if needy is not None else 0
        if needy is None or missing <= 0 or not self.keeper.holding.saves_contexts():
            return
        victims = self._victims(needy, missing)
        self.metrics.count("displacements", len(victims))
        for request in victims:
            self.scheduler.running.remove(request)
            self.scheduler._preempt_request(request, self.clock())

    def _victims(self, needy: Request, missing_blocks: int) -> list[Request]:
        victims: list[Request] = []
        freed = 0
        running = self.scheduler.running
        costs = self.keeper.snapshots.costs()
        for request in self.ranks.make_room_for(needy, running):
            turn, context = request.num_output_tokens, request.num_computed_tokens
            if not displacement_pays(turn, context, len(running), costs):
                continue
            if freed < missing_blocks and self.parking.can_free(request):
                victims.append(request)
                freed += self._freeable_blocks(request)
        room_tokens = self.keeper.contexts.memory().free_tokens
        enough = missing_blocks <= freed
        return victims if enough and freed * self.scheduler.block_size <= room_tokens else []

    def _freeable_blocks(self, request: Request) -> int:
        """Blocks that nobody else has: what preempting the request would free."""
        tables = self.keeper.tables
        return len(sole_blocks(tables.real(tables.of(request.request_id))))

    def release_waiting(self, needy: Request) -> bool:
        """Take the blocks of the last waiting request; False if none has any.

        For when nothing runs and no hold is left to break. Sessions that were interrupted, and
        requests whose host copies were loaded, wait with blocks of their own and are not pauses.
        If each of them needs more, none would start.
        """
        self._note_loads()
        holders = [
            request
            for request in self.scheduler.kv_holding_waiting
            if request is not needy and self._waits_with_blocks(request)
        ]
        if not holders:
            return False
        self._release(max(holders, key=lambda request: (request.priority, request.arrival_time)))
        return True

    def release_all_waiting(self) -> bool:
        """Take the blocks of all waiting requests, before all contexts are forgotten.

        False if anything but requests that run has blocks all the same, or if some blocks are
        still being written or copied, by a load or by an iteration in flight: vLLM would preempt
        all running requests, and raise an error then.
        """
        self._note_loads()
        scheduler = self.scheduler
        for request in list(scheduler.kv_holding_waiting):
            if self._waits_with_blocks(request):
                self._release(request)
        busy = (
            self.keeper.contexts.pending
            or not all(map(self.parking.can_free, scheduler.running))
            or not self._only_running_have_blocks()
        )
        if busy:
            logger.warning("Contexts are being written or copied: reset the cache again later")
        return not busy

    def _only_running_have_blocks(self) -> bool:
        manager = self.scheduler.kv_cache_manager
        blocks = manager.block_pool.blocks
        references = sum(block.ref_cnt for block in blocks if not block.is_null)
        tables = (
            manager.get_blocks(request.request_id).blocks for request in self.scheduler.running
        )
        return references == sum(len(real_blocks(table)) for table in tables)

    def _note_loads(self) -> None:
        """vLLM notes that a load is complete when it comes to the request: behind one that does
        not fit, or while the engine is stopped, it never would."""
        for request in self.scheduler.kv_holding_waiting:
            if request.status == RequestStatus.WAITING_FOR_REMOTE_KVS:
                self.scheduler._handle_blocked_waiting_request(request)

    def _waits_with_blocks(self, request: Request) -> bool:
        return (
            request.num_computed_tokens > 0
            and request.status in (RequestStatus.WAITING, RequestStatus.PREEMPTED)
            and self.keeper.table.claimed_by(request.request_id) is None
            and self.parking.can_free(request)
        )

    def _release(self, request: Request) -> None:
        self.parking.free(request)
        self.scheduler._inflight_prefills.discard(request)
