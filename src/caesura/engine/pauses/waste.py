"""Waste of device memory, measured in token-seconds: InferCept's three kinds (section 3.2).

*Held*: memory that paused contexts keep, until their sessions are scheduled again. *Recomputed*:
memory of running requests while an iteration computes tokens that were computed before; of its
time their share of its tokens counts (with nothing else in the iteration, equation (2)). *Copied*:
memory of running requests while an iteration waits for copies (equation (3)), and memory that
loads have taken and not filled yet.

No memory counts twice at a time, so the three are shares of device memory x time.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Concatenate, ParamSpec

from vllm.v1.core.kv_cache_utils import KVCacheBlock
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler

from caesura.engine.guard import Aside
from caesura.engine.metrics import PauseMetrics
from caesura.engine.pauses.pause import RecomputeCause

P = ParamSpec("P")


class Waste(StrEnum):
    """Why device memory was of no use."""

    HELD = "held"
    RECOMPUTED = "recomputed"
    COPIED = "copied"


@dataclass(frozen=True, slots=True)
class _Iteration:
    """An iteration under way; memory in tokens, when it was scheduled."""

    tokens: int
    recomputed_tokens: int
    active_tokens: int
    stalled_seconds: float


@dataclass(frozen=True, slots=True)
class _Computed:
    """Leading tokens of a request that have been computed, and why that may be for nothing."""

    tokens: int
    cause: RecomputeCause


def _aside(
    measure: Callable[Concatenate["WasteMeter", P], None],
) -> Callable[Concatenate["WasteMeter", P], None]:
    """A measurement that fails is counted, and ends nothing."""

    @wraps(measure)
    def guarded(meter: "WasteMeter", /, *args: P.args, **kwargs: P.kwargs) -> None:
        with meter.guard:
            measure(meter, *args, **kwargs)

    return guarded


class WasteMeter:
    """Measures the waste of one engine. It decides nothing; a failure of it ends nothing.

    Args:
        scheduler: vLLM's, or a subclass; its pool and its requests are read.
        metrics: count recomputed tokens by cause and, at `publish`, token-seconds.
        clock: seconds.
        loading_blocks: device blocks that loads have taken and not filled yet.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        metrics: PauseMetrics,
        clock: Callable[[], float],
        loading_blocks: Callable[[], int] = lambda: 0,
    ) -> None:
        self._scheduler = scheduler
        self._pool = scheduler.kv_cache_manager.block_pool
        self._block_size: int = scheduler.block_size
        self._metrics = metrics
        self.guard = metrics.guard(Aside.STATISTICS)
        self._clock = clock
        self._loading_blocks = loading_blocks
        self._holders: dict[int, int] = {}  # by block: how many paused contexts keep it
        self._loading = 0
        self._computed: dict[str, _Computed] = {}  # by request
        self._under_way: deque[_Iteration] = deque()
        self._wasted = dict.fromkeys(Waste, 0.0)
        self._device = 0.0
        self._since = clock()

    # Memory

    @_aside
    def keep(self, blocks: Iterable[KVCacheBlock]) -> None:
        """A paused context keeps these blocks on the device."""
        self._pass_time()
        for block in blocks:
            self._holders[block.block_id] = self._holders.get(block.block_id, 0) + 1

    @_aside
    def let_go(self, blocks: Iterable[KVCacheBlock]) -> None:
        """It does not any longer."""
        self._pass_time()
        for block in blocks:
            left = self._holders[block.block_id] - 1
            if left:
                self._holders[block.block_id] = left
            else:
                del self._holders[block.block_id]

    def _pass_time(self) -> None:
        """Memory was as it is until now."""
        now = self._clock()
        token_seconds = (now - self._since) * self._block_size
        self._since = now
        self._device += token_seconds * (self._pool.num_gpu_blocks - 1)  # without the null block
        self._wasted[Waste.HELD] += token_seconds * len(self._holders)
        self._wasted[Waste.COPIED] += token_seconds * self._loading

    # Work

    @_aside
    def had(self, request_id: str, computed_tokens: int, cause: RecomputeCause) -> None:
        """So many leading tokens of a request have been computed already: those of them that are
        scheduled once more are recomputed, for this cause."""
        known = self._computed.get(request_id)
        if computed_tokens > (known.tokens if known is not None else 0):
            self._computed[request_id] = _Computed(computed_tokens, cause)

    @_aside
    def forget(self, request_id: str) -> None:
        """A request is over."""
        self._computed.pop(request_id, None)

    @_aside
    def scheduled(self, output: SchedulerOutput, stalled_seconds: float = 0.0) -> None:
        """An iteration was scheduled, and waits for copies for so long; those under way end in
        this order."""
        self._pass_time()
        self._loading = self._loading_blocks()
        recomputed = self._recomputed(output) if self._computed else 0
        used = self._pool.num_gpu_blocks - 1 - self._pool.get_num_free_blocks()
        active = max(0, used - len(self._holders) - self._loading)
        tokens = output.total_num_scheduled_tokens
        self._under_way.append(
            _Iteration(tokens, recomputed, active * self._block_size, stalled_seconds)
        )

    def _recomputed(self, output: SchedulerOutput) -> int:
        recomputed = 0
        for request_id, count in output.num_scheduled_tokens.items():
            had = self._computed.get(request_id)
            if had is None:
                continue
            stop = self._scheduler.requests[request_id].num_computed_tokens  # when it is over
            again = max(0, min(had.tokens, stop) - (stop - count))
            self._metrics.count("recomputed_tokens", again, labels=(had.cause,))
            recomputed += again
            if stop >= had.tokens:
                del self._computed[request_id]
        return recomputed

    @_aside
    def iterated(self, began_seconds: float, ended_seconds: float) -> None:
        """The results of the first iteration under way were taken."""
        self._pass_time()
        self._loading = self._loading_blocks()
        iteration = self._under_way.popleft()
        if not iteration.tokens:
            return
        seconds = ended_seconds - began_seconds
        stalled = min(seconds, iteration.stalled_seconds)
        share = iteration.recomputed_tokens / iteration.tokens
        active = iteration.active_tokens
        self._wasted[Waste.COPIED] += stalled * active
        self._wasted[Waste.RECOMPUTED] += (seconds - stalled) * share * active

    # Counts

    @_aside
    def publish(self) -> None:
        """Count what has come together since the last time."""
        self._pass_time()
        self._metrics.count("device_token_seconds", self._device)
        for waste, token_seconds in self._wasted.items():
            self._metrics.count("waste_token_seconds", token_seconds, (waste,))
        self._clear()

    @_aside
    def restart(self) -> None:
        """Measure from now on; what was not published is forgotten."""
        self._pass_time()
        self._clear()

    def _clear(self) -> None:
        self._device = 0.0
        self._wasted = dict.fromkeys(Waste, 0.0)

    def is_empty(self) -> bool:
        """Whether nothing is left of any request (integrity check)."""
        return not self._computed
