"""Counters of pauses and copies, and their way to vLLM's `/metrics`.

The scheduler counts; the connector hands the counts over as vLLM's connector stats, which
reach the API process and are registered there as Prometheus metrics. On the way a counter and its
labels are one text of ASCII that can only be read as it was written (`counter_key`).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import prometheus_client
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
    PromMetric,
    PromMetricT,
)

from caesura.engine.guard import Aside, Guard

LabelValues = tuple[str, ...]

COUNTERS: dict[str, tuple[str, list[str]]] = {
    "pauses": ("Pauses begun, by what they wait for.", ["endpoint"]),
    "pause_endings": ("Pauses ended, by how.", ["endpoint", "ending"]),
    "presumptions": (
        "Paused clients presumed to be gone, and of them, those that came back.",
        ["outcome"],
    ),
    "dispositions": ("Decisions about paused contexts.", ["endpoint", "disposition"]),
    "hold_endings": ("Ends of holds on device blocks, by how.", ["ending"]),
    "displacements": ("Running requests preempted for a session that ranks before them.", []),
    "progress_reports": ("Reports of how far what a pause waits for has come.", ["endpoint"]),
    "interrupts": ("Interrupts injected into running generations.", []),
    "interrupts_seen": ("Interrupts by steps from their arrival to the next token.", ["steps"]),
    "held_tokens": ("Tokens that a resume found on the device.", []),
    "loaded_tokens": ("Tokens that a resume loads from host memory.", []),
    "recomputed_tokens": ("Tokens of contexts that are computed again, by why.", ["cause"]),
    "copied_tokens": ("Tokens copied to host memory.", []),
    "failed_copies": ("Iterations of which some copies, out or in, failed.", []),
    "prefetches": ("Loads ahead of a return, by whether the return found them.", ["ending"]),
    "prefetched_tokens": ("Tokens loaded from host memory ahead of a return.", []),
    "device_token_seconds": ("Device memory for KV caches x time.", []),
    "waste_token_seconds": ("Device memory x time that was of no use, by why.", ["cause"]),
    "paused_seconds": ("Time that ended pauses lasted.", ["endpoint"]),
    "returns": ("Pauses that ended and whose duration was predicted.", ["endpoint"]),
    "predicted_seconds": ("Predicted duration of these, before each was learned.", ["endpoint"]),
    "failures": ("Failures of what no request waits for, by kind; logged once.", ["kind"]),
    "returned_seconds": ("Actual duration of these, until the tokens arrived.", ["endpoint"]),
}
TOKENS_IN_CHARGE = "tokens_in_charge"
GAUGES: dict[str, str] = {
    TOKENS_IN_CHARGE: "Tokens of all that runs, waits or is paused now, without contexts of which "
    "nothing is kept or whose clients are gone.",
    "pauses_now": "Paused contexts now.",
    "holding_now": "Paused contexts that hold device blocks now.",
    "copied_now": "Paused contexts that hold no device blocks and have a host copy now.",
    "held_tokens_now": "Tokens that holds keep on the device now.",
    "host_tokens_now": "Tokens with a copy in host memory now.",
    "device_tokens": "Tokens that device memory has room for.",
    "host_tokens": "Tokens that host memory has room for.",
    "saves_contexts_now": "Contexts that give way are copied to host memory: 1; 0 where there is "
    "none, or where so few copies are used that computing again takes less time.",
    "returning_now": "Sessions whose tokens have arrived and that wait to be scheduled.",
}

STEP_SECONDS = "step_seconds"
STEP_BUCKETS = (0.0001, 0.001, 0.005, 0.02, 0.1, 0.5)
STEPS_SENT = 256
"""Steps whose times are sent together if nothing else has to be."""

STEPS_KEPT = 16 * STEPS_SENT
"""Steps whose times are kept at most where nobody takes them."""


def counter_key(name: str, *labels: str) -> str:
    """A counter and its labels as one text, as vLLM carries it: a JSON list of ASCII."""
    return json.dumps([name, *labels])


def label_value(text: str) -> str:
    """What `/metrics` can be written with: lone surrogates are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class PauseMetrics:
    """Counts on the scheduler's side, handed over as increments.

    Attributes:
        guard: catches and counts what fails beside the engine's work.
    """

    def __init__(self) -> None:
        self.guard = Guard(lambda kind: self.count("failures", labels=(kind,)))
        self._counts: Counter[tuple[str, LabelValues]] = Counter()
        self._gauges: dict[str, int] = {}
        self._sent_gauges: dict[str, int] = {}
        self._step_seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._steps = 0

    def count(self, name: str, amount: float = 1, labels: LabelValues = ()) -> None:
        """Add to a counter of `COUNTERS`."""
        if amount:
            self._counts[name, labels] += amount  # type: ignore[assignment]

    def set_gauges(self, gauges: dict[str, int]) -> None:
        """Set gauges of `GAUGES`."""
        self._gauges = gauges

    def note_step(self, seconds: Mapping[str, float]) -> None:
        """What a step took of our own work, by part."""
        if self._steps < STEPS_KEPT:
            self._steps += 1
            for part, spent in seconds.items():
                self._step_seconds[part].append(spent)

    def take(self) -> "PauseStats | None":
        """What changed since the last call, None when nothing did."""
        changed = self._counts or self._gauges != self._sent_gauges
        if not changed and self._steps < STEPS_SENT:
            return None
        counts = {counter_key(name, *labels): v for (name, labels), v in self._counts.items()}
        stats = PauseStats(
            data={
                "counters": counts,
                "gauges": dict(self._gauges),
                STEP_SECONDS: dict(self._step_seconds),
            }
        )
        self._sent_gauges = dict(self._gauges)
        self._counts.clear()
        self._step_seconds.clear()
        self._steps = 0
        return stats


class PauseStats(KVConnectorStats):
    """Increments of counters and values of gauges, as vLLM carries them between processes."""

    data: dict[str, Any]

    def reset(self) -> None:
        """Forget everything."""
        self.data = {"counters": {}, "gauges": {}}

    def aggregate(self, other: KVConnectorStats) -> "PauseStats":
        """Add the other's increments; take its gauges. Times of steps are not kept."""
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
            totals[json.loads(key)[0]] += amount
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
        self._step_seconds: Any = self._histogram_cls(
            name=f"caesura:{STEP_SECONDS}",
            documentation="Time of a step that is Caesura's own, by part.",
            labelnames=[*labelnames, "part"],
            buckets=STEP_BUCKETS,
        )
        self._guards: dict[int, Guard] = {}

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Apply increments, gauge values and times of one engine. Outputs do not end for it."""
        engine_labels = self.per_engine_labelvalues[engine_idx]

        def count(kind: Aside) -> None:
            self._counters["failures"].labels(*engine_labels, kind).inc()

        guard = self._guards.setdefault(engine_idx, Guard(count))
        for key, amount in transfer_stats_data.get("counters", {}).items():
            with guard(Aside.STATISTICS):
                name, *labels = json.loads(key)
                values = [*engine_labels, *map(label_value, labels)]
                self._counters[name].labels(*values).inc(amount)
        with guard(Aside.STATISTICS):
            for name, value in transfer_stats_data.get("gauges", {}).items():
                self._gauges[name].labels(*engine_labels).set(value)
            for part, steps in transfer_stats_data.get(STEP_SECONDS, {}).items():
                histogram = self._step_seconds.labels(*engine_labels, part)
                for seconds in steps:
                    histogram.observe(seconds)


def unregister_metrics() -> None:
    """Remove the metrics of an earlier engine of this process."""
    registry = prometheus_client.REGISTRY
    for collector in list(registry._collector_to_names):
        name = getattr(collector, "_name", "")
        if name.startswith("caesura:"):
            registry.unregister(collector)
