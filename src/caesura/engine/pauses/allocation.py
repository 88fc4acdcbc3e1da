"""Allocation that breaks holds when the pool is short, and ends pauses when it succeeds."""

from typing import Any

from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from caesura.engine.pauses.demands import Demands
from caesura.engine.pauses.displacing import Displacing
from caesura.engine.pauses.keeper import PauseKeeper
from caesura.engine.pauses.own_time import OwnTime, Part

HEADROOM_BLOCKS_PER_REQUEST = 2
"""In each KV cache group."""


class ReclaimingAllocator:
    """Stands in for `KVCacheManager.allocate_slots`.

    vLLM asks for slots for every request that it schedules, and gives up (or preempts) when
    there are none. This is the one place where holds are broken: right before that.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        keeper: PauseKeeper,
        demands: Demands,
        displacing: Displacing,
        own_time: OwnTime,
    ) -> None:
        self._scheduler = scheduler
        self._manager: KVCacheManager = scheduler.kv_cache_manager
        self._keeper = keeper
        self._demands = demands
        self._displacing = displacing
        self._own_time = own_time
        self._allocate = self._manager.allocate_slots

    def install(self) -> None:
        """Take the place of the manager's method."""
        self._manager.allocate_slots = self.allocate_slots

    def allocate_slots(
        self, request: Request, num_new_tokens: int, **options: Any
    ) -> KVCacheBlocks | None:
        """As vLLM's, but holds are broken before it fails, and nobody waits for ever."""
        running = request.status == RequestStatus.RUNNING
        headroom = 0 if running else self._headroom_blocks()
        if headroom:
            options["reserved_blocks"] = options.get("reserved_blocks", 0) + headroom
        blocks = self._allocate(request, num_new_tokens, **options)
        if blocks is not None and running:
            self._demands.forget(request.request_id)
            return blocks
        if blocks is None and len(self._keeper.table) > 0:
            missing = self._missing_blocks(request, num_new_tokens, options)
            idle = not self._scheduler.running
            with self._own_time(Part.RECLAIM):
                enough = self._demands.reclaim(request, missing, running=running, idle=idle)
            if enough:
                blocks = self._allocate(request, num_new_tokens, **options)
        while blocks is None and not self._scheduler.running:
            if not self._displacing.release_waiting(request):
                break
            blocks = self._allocate(request, num_new_tokens, **options)
        if blocks is not None:
            self._end_pause_of(request, options)
        return blocks

    def _headroom_blocks(self) -> int:
        """Blocks that stay free for the running requests when a waiting one is admitted.

        Contexts that are copied out leave room at once, and vLLM fills all of it. The next block
        that a running request needs then costs the preemption of another, whose whole context
        is computed again, unless that is copied out too. Where holds are left, running requests
        take from those instead; and without any pause vLLM's own admission stands.
        """
        running = len(self._scheduler.running)
        if not running or not len(self._keeper.table) or self._keeper.holding.saves_contexts():
            return 0
        groups = self._keeper.contexts.transfers.groups.count
        wanted = HEADROOM_BLOCKS_PER_REQUEST * groups * running
        return max(0, wanted - self._keeper.table.held_blocks(wanted))

    def _end_pause_of(self, request: Request, options: dict[str, Any]) -> None:
        self._demands.forget(request.request_id)
        pause = self._keeper.table.claimed_by(request.request_id)
        if pause is not None:
            local_tokens = request.num_computed_tokens + options.get("num_new_computed_tokens", 0)
            loaded_tokens = options.get("num_external_computed_tokens", 0)
            self._keeper.resumed(pause, local_tokens, loaded_tokens)

    def _missing_blocks(
        self, request: Request, num_new_tokens: int, options: dict[str, Any]
    ) -> int:
        """Blocks that the pool lacks for this allocation, over all KV cache groups."""
        found = options.get("new_computed_blocks") or self._manager.empty_kv_cache_blocks
        local = request.num_computed_tokens + options.get("num_new_computed_tokens", 0)
        computed = local + options.get("num_external_computed_tokens", 0)
        longest = self._manager.max_model_len
        wanted = computed + num_new_tokens
        lookahead = options.get("num_lookahead_tokens", 0)

        def needed_for(tokens: int, main_model_tokens: int, *, admission: bool) -> int:
            return self._manager.coordinator.get_num_blocks_to_allocate(
                request_id=request.request_id,
                num_tokens=min(tokens, longest),
                new_computed_blocks=found.blocks,
                num_encoder_tokens=options.get("num_encoder_tokens", 0),
                total_computed_tokens=computed,
                num_local_computed_tokens=local,
                num_tokens_main_model=main_model_tokens,
                apply_admission_cap=admission,
                prefill_end=max(request.num_prompt_tokens, request.num_tokens - 1),
            )

        needed = needed_for(wanted + lookahead, wanted, admission=False)
        if options.get("full_sequence_must_fit", False):
            whole = min(request.num_tokens, longest)
            needed = max(needed, needed_for(whole, whole, admission=True))
        needed += options.get("reserved_blocks", 0)
        if request.status != RequestStatus.RUNNING and options.get("has_scheduled_reqs", True):
            needed += self._manager.watermark_blocks
        return max(1, needed - self._manager.block_pool.get_num_free_blocks())
