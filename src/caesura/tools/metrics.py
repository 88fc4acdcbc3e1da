"""Metrics of tool calls."""

from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class ToolMetrics:
    """Counters of one registry, which can hold only one such set.

    Attributes:
        calls: calls by tool and ending.
        seconds: from a call to its result, by tool.
        abandoned: attempts that went on though they were cancelled, by tool.
        retries: repeated attempts by tool.
        cache_hits: calls that another call's result served, by tool.
        bundled: calls that ran together with others of the same turn, by tool.
        fused_steps: steps of sequences, by sequence.
        waiting_for_human: questions that wait for an answer now.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"caesura_tool_{name}", text, ["tool", *labels], registry=registry)

        self.calls = counter("calls", "Tool calls by ending.", "ending")
        self.seconds = Histogram(
            "caesura_tool_seconds",
            "Seconds from a tool call to its result.",
            ["tool"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.abandoned = counter("abandoned", "Attempts that went on though they were cancelled.")
        self.retries = counter("retries", "Repeated attempts.")
        self.cache_hits = counter("cache_hits", "Calls that another call's result served.")
        self.bundled = counter(
            "bundled_calls", "Calls that ran together with others of the same turn."
        )
        self.fused_steps = counter("fused_steps", "Steps of sequences.")
        self.waiting_for_human = Gauge(
            "caesura_tool_waiting_for_human",
            "Questions that wait for a human's answer.",
            registry=registry,
        )


def tool_metrics(registry: CollectorRegistry = REGISTRY) -> ToolMetrics:
    """The metrics of a registry, made once."""
    return _metrics_of(registry)


@cache  # with the default filled in: a registry given by name is the same one
def _metrics_of(registry: CollectorRegistry) -> ToolMetrics:
    return ToolMetrics(registry)
