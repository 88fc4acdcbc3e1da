"""Counters of pauses and copies, and their way to vLLM's `/metrics`.

The scheduler counts; the connector hands the counts over as vLLM's connector stats, which
reach the API process and are registered there as Prometheus metrics.
"""

from collections import Counter
from typing import Any

import prometheus_client
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
    PromMetric,
    PromMetricT,
)

LabelValues = tuple[str, ...]

COUNTERS: dict[str, tuple[str, list[str]]] = {
    "pauses": ("Pauses begun, by what they wait for.", ["endpoint"]),
    "pause_endings": ("Pauses ended, by how.", ["endpoint", "ending"]),
    "dispositions": ("Decisions about paused contexts.", ["endpoint", "disposition"]),
    "hold_endings": ("Ends of holds on device blocks, by how.", ["ending"]),
    "displacements": ("Running requests preempted for a session that ranks before them.", []),
    "progress_reports": ("Reports of how far what a pause waits for has come.", ["endpoint"]),
    "interrupts": ("Interrupts injected into running generations.", []),
    "interrupts_seen": ("Interrupts by steps from their arrival to the next token.", ["steps"]),
    "held_tokens": ("Tokens that a resume found on the device.", []),
    "loaded_tokens": ("Tokens that a resume loads from host memory.", []),
    "recomputed_tokens": ("Tokens of paused contexts that a resume computes again.", []),
    "copied_tokens": ("Tokens copied to host memory.", []),
    "prefetches": ("Loads ahead of a return, by whether the return found them.", ["ending"]),
    "prefetched_tokens": ("Tokens loaded from host memory ahead of a return.", []),
    "paused_seconds": ("Time that ended pauses lasted.", ["endpoint"]),
    "returns": ("Pauses that ended and whose duration was predicted.", ["endpoint"]),
    "predicted_seconds": ("Predicted duration of these, before each was learned.", ["endpoint"]),
    "returned_seconds": ("Actual duration of these, until the tokens arrived.", ["endpoint"]),
}
GAUGES: dict[str, str] = {
    "pauses_now": "Paused contexts now.",
    "holding_now": "Paused contexts that hold device blocks now.",
    "copied_now": "Paused contexts that hold no device blocks and have a host copy now.",
    "held_tokens_now": "Tokens that holds keep on the device now.",
    "host_tokens_now": "Tokens with a copy in host memory now.",
    "device_tokens": "Tokens that device memory has room for.",
    "host_tokens": "Tokens that host memory has room for.",
    "returning_now": "Sessions whose tokens have arrived and that wait to be scheduled.",
}


class PauseMetrics:
    """Counts on the scheduler's side, handed over as increments."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, LabelValues]] = Counter()
        self._gauges: dict[str, int] = {}
        self._sent_gauges: dict[str, int] = {}

    def count(self, name: str, amount: float = 1, labels: LabelValues = ()) -> None:
        """Add to a counter of `COUNTERS`."""
        if amount:
            self._counts[name, labels] += amount  # type: ignore[assignment]

    def set_gauges(self, gauges: dict[str, int]) -> None:
        """Set gauges of `GAUGES`."""
        self._gauges = gauges

    def take(self) -> "PauseStats | None":
        """What changed since the last call, None when nothing did."""
        if not self._counts and self._gauges == self._sent_gauges:
            return None
        counts = {f"{name}|{'|'.join(labels)}": v for (name, labels), v in self._counts.items()}
        stats = PauseStats(data={"counters": counts, "gauges": dict(self._gauges)})
        self._sent_gauges = dict(self._gauges)
        self._counts.clear()
        return stats


class PauseStats(KVConnectorStats):
    """Increments of counters and values of gauges, as vLLM carries them between processes."""

    data: dict[str, Any]

    def reset(self) -> None:
        """Forget everything."""
        self.data = {"counters": {}, "gauges": {}}

    def aggregate(self, other: KVConnectorStats) -> "PauseStats":
        """Add the other's increments; take its gauges."""
        if not self.data:
            self.reset()
        for key, amount in other.data.get("counters", {}).items():
            self.data["counters"][key] = self.data["counters"].get(key, 0) + amount
        self.data["gauges"].update(other.data.get("gauges", {}))
        return self

    def reduce(self) -> dict[str, int | float]:
        """One line for vLLM's log."""
        totals: Counter[str] = Counter()
        for key, amount in self.data.get("counters", {}).items():
            totals[key.split("|", 1)[0]] += amount
        return {**totals, **self.data.get("gauges", {})}

    def is_empty(self) -> bool:
        """Whether there is nothing to report."""
        return not self.data.get("counters") and not self.data.get("gauges")


class PausePrometheus(KVConnectorPromMetrics):
    """Registers Caesura's metrics in vLLM's registry as `caesura:*`."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        metric_types: dict[type[PromMetric], type[PromMetricT]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        unregister_metrics()
        self._counters: dict[str, Any] = {
            name: self._counter_cls(
                name=f"caesura:{name}", documentation=text, labelnames=labelnames + labels
            )
            for name, (text, labels) in COUNTERS.items()
        }
        self._gauges: dict[str, Any] = {
            name: self._gauge_cls(
                name=f"caesura:{name}",
                documentation=text,
                labelnames=labelnames,
                multiprocess_mode="mostrecent",
            )
            for name, text in GAUGES.items()
        }

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Apply increments and gauge values of one engine."""
        engine_labels = self.per_engine_labelvalues[engine_idx]
        for key, amount in transfer_stats_data.get("counters", {}).items():
            name, *labels = key.split("|")
            values = [label for label in labels if label or COUNTERS[name][1]]
            self._counters[name].labels(*engine_labels, *values).inc(amount)
        for name, value in transfer_stats_data.get("gauges", {}).items():
            self._gauges[name].labels(*engine_labels).set(value)


def unregister_metrics() -> None:
    """Remove the metrics of an earlier engine of this process."""
    registry = prometheus_client.REGISTRY
    for collector in list(registry._collector_to_names):
        name = getattr(collector, "_name", "")
        if name.startswith("caesura:"):
            registry.unregister(collector)
