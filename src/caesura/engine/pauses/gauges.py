"""Gauges of pauses and of the memory that they use."""

from collections.abc import Callable

from caesura.engine.copies.contexts import HostContexts
from caesura.engine.metrics import PauseMetrics
from caesura.engine.pauses.snapshots import Snapshots
from caesura.engine.pauses.table import PauseTable

INTERVAL_SECONDS = 0.2


class Gauges:
    """Reads gauges now and then: it takes a look at every pause.

    Args:
        table: the pauses.
        contexts: host copies of them.
        snapshots: for the size of device memory.
        metrics: takes the gauges.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        table: PauseTable,
        contexts: HostContexts,
        snapshots: Snapshots,
        metrics: PauseMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._contexts = contexts
        self._snapshots = snapshots
        self._metrics = metrics
        self._clock = clock
        self._read_seconds = 0.0

    def read(self, *, idle: bool) -> None:
        """Refresh the gauges, if they are old or nothing may refresh them for a long time."""
        now = self._clock()
        if not idle and now - self._read_seconds < INTERVAL_SECONDS:
            return
        self._read_seconds = now
        holding = [pause for pause in self._table if pause.hold is not None]
        copied = [pause for pause in self._table if pause.hold is None and pause.copied_tokens]
        self._metrics.set_gauges(
            {
                "pauses_now": len(self._table),
                "holding_now": len(holding),
                "copied_now": len(copied),
                "held_tokens_now": sum(pause.held_tokens for pause in holding),
                "host_tokens_now": self._contexts.used_tokens(),
                "device_tokens": self._snapshots.device_memory().total_tokens,
                "host_tokens": self._contexts.memory().total_tokens,
                "returning_now": self._table.returning_count(),
            }
        )
