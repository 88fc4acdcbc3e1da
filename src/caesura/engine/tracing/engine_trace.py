"""Recording what a scheduler and its keeper of pauses do."""

from collections.abc import Callable
from pathlib import Path

from vllm.v1.core.sched.scheduler import Scheduler

from caesura.engine.config import block_bytes
from caesura.engine.pauses.keeper import PauseKeeper
from caesura.engine.tracing.recorder import Levels, Trace, TraceRecorder


def trace_engine(
    scheduler: Scheduler, keeper: PauseKeeper, name: str, clock: Callable[[], float], path: Path
) -> Trace:
    """Record what a scheduler and its keeper do, from now on.

    Args:
        scheduler: any scheduler of vLLM's.
        keeper: its pauses; its listeners are replaced.
        name: what is traced, for people.
        clock: the scheduler's, in monotonic seconds.
        path: file of the first section.
    """
    trace = TraceRecorder(
        path,
        name,
        clock,
        lambda: levels_of(scheduler, keeper),
        block_bytes(scheduler.kv_cache_config),
    )
    keeper.report_to(trace)
    keeper.contexts.report_to(trace)
    return trace


def levels_of(scheduler: Scheduler, keeper: PauseKeeper | None) -> Levels:
    """Lengths of queues, and memory."""
    running, waiting = scheduler.get_request_counts()
    requests = {"running": running, "waiting": waiting}
    block_size = scheduler.block_size
    free_blocks = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    levels = {"requests": requests, "device tokens": {"free": free_blocks * block_size}}
    if keeper is not None:
        requests["paused"] = len(keeper.table) - keeper.table.returning_count()
        if keeper.contexts.memory().total_tokens:
            levels["host tokens"] = {"used": keeper.contexts.used_tokens()}
    return levels
