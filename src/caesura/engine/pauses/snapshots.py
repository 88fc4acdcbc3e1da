"""The state that the policy decides from."""

from collections.abc import Callable
from dataclasses import replace

from vllm.v1.core.sched.scheduler import Scheduler

from caesura.engine.copies.contexts import HostContexts
from caesura.engine.pauses.costs import StepTimer
from caesura.engine.pauses.table import PauseTable
from caesura.policy import CostModel, Demand, Load, Memory, Snapshot


class Snapshots:
    """Takes snapshots of an engine.

    Args:
        scheduler: vLLM's, with its queues and its blocks.
        table: the pauses.
        contexts: host copies of them.
        timer: measures iterations.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        table: PauseTable,
        contexts: HostContexts,
        timer: StepTimer,
        clock: Callable[[], float],
    ) -> None:
        self._scheduler = scheduler
        self._table = table
        self._contexts = contexts
        self._timer = timer
        self._clock = clock

    def take(self, demand: Demand | None = None) -> Snapshot:
        """The state now, for a request that lacks memory or for nobody."""
        return Snapshot(
            now_seconds=self._clock(),
            pauses=self._table,
            device=self.device_memory(),
            host=self._contexts.memory(),
            costs=self.costs(),
            load=self._load(),
            demand=demand,
        )

    def device_memory(self) -> Memory:
        """Device memory for KV caches, in tokens."""
        pool, block_size = self._scheduler.kv_cache_manager.block_pool, self._scheduler.block_size
        return Memory(
            total_tokens=(pool.num_gpu_blocks - 1) * block_size,  # without vLLM's null block
            free_tokens=pool.get_num_free_blocks() * block_size,
        )

    def costs(self) -> CostModel:
        """What computing and copying cost, as measured so far."""
        costs = self._timer.costs()
        per_token = self._contexts.link().seconds_per_token
        if per_token is None:
            return costs
        return replace(costs, seconds_per_copied_token=per_token, link_measured=True)

    def _load(self) -> Load:
        running, link = self._scheduler.running, self._contexts.link()
        return Load(
            running_requests=len(running),
            running_tokens=sum(request.num_computed_tokens for request in running),
            waiting_requests=len(self._scheduler.waiting) + len(self._scheduler.kv_holding_waiting),
            link_backlog_tokens=link.backlog_tokens,
            copy_budget_tokens=link.budget_tokens,
        )
