"""The engines of one server (data parallel), as its API process sees them."""

from typing import Any

from vllm.v1.metrics.loggers import AggregateStatLoggerBase
from vllm.v1.metrics.stats import IterationStats, MultiModalCacheStats, SchedulerStats

from caesura.engine.metrics import TOKENS_IN_CHARGE
from caesura.engine.protocol import CONNECTOR_CLASS
from caesura.session.homes import Homes


class ChargeReports(AggregateStatLoggerBase):
    """Passes on how many tokens each engine has in charge, as its scheduler reports them.

    Args:
        homes: where to.
        first: number of the first of the engines that this server gives requests to.
    """

    def __init__(self, homes: Homes, first: int) -> None:
        self._homes = homes
        self._first = first

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        mm_cache_stats: MultiModalCacheStats | None = None,
        engine_idx: int = 0,
    ) -> None:
        """Take one step's report."""
        stats = (scheduler_stats and scheduler_stats.kv_connector_stats) or {}
        stats = stats.get(CONNECTOR_CLASS, stats)  # among others, in a MultiConnector
        tokens = stats.get("gauges", {}).get(TOKENS_IN_CHARGE)
        if tokens is not None:
            self._homes.report(engine_idx - self._first, tokens)

    def log_engine_initialized(self) -> None:
        """Nothing to log."""


def homes_on(engine_client: Any) -> Homes:
    """The homes of conversations on the engines that an engine client has.

    Without statistics (`--disable-log-stats`) what was placed on each of them counts alone.
    """
    core = getattr(engine_client, "engine_core", None)
    homes = Homes(lambda: len(getattr(core, "core_engines", ())) or 1)
    loggers = getattr(engine_client, "logger_manager", None)
    if loggers is not None:
        first = min(getattr(core, "engine_ranks_managed", ()), default=0)
        loggers.stat_loggers.append(ChargeReports(homes, first))
    return homes
