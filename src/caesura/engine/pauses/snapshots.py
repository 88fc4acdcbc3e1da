"""The state of an engine: what the policy decides from, and what is shown of it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from vllm.v1.core.sched.scheduler import Scheduler

from caesura.engine.copies.contexts import HostContexts
from caesura.engine.metrics import TOKENS_IN_CHARGE, PauseMetrics
from caesura.engine.pauses.costs import StepTimer
from caesura.engine.pauses.table import PauseTable
from caesura.engine.pauses.waste import WasteMeter
from caesura.policy import CostModel, Demand, Load, Memory, Snapshot


@dataclass(slots=True, eq=False)
class Snapshots:
    """Takes snapshots of an engine."""

    scheduler: Scheduler
    table: PauseTable
    contexts: HostContexts
    timer: StepTimer
    clock: Callable[[], float]

    def take(self, demand: Demand | None = None) -> Snapshot:
        """The state now, for a request that lacks memory or for nobody."""
        return Snapshot(
            now_seconds=self.clock(),
            pauses=self.table,
            device=self.device_memory(),
            host=self.contexts.memory(),
            costs=self.costs(),
            load=self._load(),
            demand=demand,
        )

    def device_memory(self) -> Memory:
        """Device memory for KV caches, in tokens."""
        pool, block_size = self.scheduler.kv_cache_manager.block_pool, self.scheduler.block_size
        return Memory(
            total_tokens=(pool.num_gpu_blocks - 1) * block_size,  # without vLLM's null block
            free_tokens=pool.get_num_free_blocks() * block_size,
        )

    def costs(self) -> CostModel:
        """What computing and copying cost, as measured so far."""
        link = self.contexts.link()
        costs = replace(self.timer.costs(), copies_used=link.share_used)
        if link.seconds_per_token is None:
            return costs
        return replace(costs, seconds_per_copied_token=link.seconds_per_token, link_measured=True)

    def _load(self) -> Load:
        running, link = self.scheduler.running, self.contexts.link()
        return Load(
            running_requests=len(running),
            running_tokens=sum(request.num_computed_tokens for request in running),
            waiting_requests=len(self.scheduler.waiting) + len(self.scheduler.kv_holding_waiting),
            link_backlog_tokens=link.backlog_tokens,
            copy_budget_tokens=link.budget_tokens,
        )


INTERVAL_SECONDS = 0.2


@dataclass(slots=True, eq=False)
class Gauges:
    """Reads gauges, and counts waste, now and then: gauges take a look at every pause."""

    table: PauseTable
    contexts: HostContexts
    snapshots: Snapshots
    saves_contexts: Callable[[], bool]
    metrics: PauseMetrics
    waste: WasteMeter
    clock: Callable[[], float]
    _read_seconds: float = field(default=0.0, init=False)

    def read(self, *, idle: bool) -> None:
        """Refresh the gauges, if they are old or nothing may refresh them for a long time."""
        now = self.clock()
        if not idle and now - self._read_seconds < INTERVAL_SECONDS:
            return
        self._read_seconds = now
        self.waste.publish()
        holding = [pause for pause in self.table if pause.hold is not None]
        copied = [pause for pause in self.table if pause.hold is None and pause.copied_tokens]
        self.metrics.set_gauges(
            {
                TOKENS_IN_CHARGE: self._tokens_in_charge(),
                "pauses_now": len(self.table),
                "holding_now": len(holding),
                "copied_now": len(copied),
                "held_tokens_now": sum(pause.memory_tokens(pause.held_tokens) for pause in holding),
                "host_tokens_now": self.contexts.used_tokens(),
                "device_tokens": self.snapshots.device_memory().total_tokens,
                "host_tokens": self.contexts.memory().total_tokens,
                "saves_contexts_now": int(self.saves_contexts()),
                "returning_now": self.table.returning_count(),
            }
        )

    def _tokens_in_charge(self) -> int:
        """Of requests, those parked among them, and of clients that are expected back."""
        paused = sum(
            pause.total_tokens
            for pause in self.table
            if pause.request is None
            and not pause.returning
            and pause.gone_after_seconds is None
            and (pause.hold is not None or pause.copied_tokens)
        )
        requests = self.snapshots.scheduler.requests.values()
        return paused + sum(request.num_tokens for request in requests)
