"""What the engine's process reports, through vLLM's own way to the registry, read again."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from vllm.v1.metrics.prometheus import unregister_vllm_metrics

from caesura.engine.metrics import PauseMetrics, PausePrometheus, unregister_metrics
from caesura.server.dashboard.engine_numbers import EndpointNumbers, read_engine, read_tools
from caesura.tools.metrics import tool_metrics

TYPES = {Counter: Counter, Gauge: Gauge, Histogram: Histogram}


@pytest.fixture
def reported() -> Iterator[PausePrometheus]:
    """The metrics of two engines, in the registry of the process."""
    config = SimpleNamespace(kv_transfer_config=None)
    labels = {0: ["demo", "0"], 1: ["demo", "1"]}
    yield PausePrometheus(config, TYPES, ["model_name", "engine"], labels)
    unregister_metrics()


def report(prometheus: PausePrometheus, metrics: PauseMetrics, engine: int = 0) -> None:
    stats = metrics.take()
    assert stats is not None
    prometheus.observe(stats.data, engine)


def test_stock_vllm_is_no_engine_of_ours() -> None:
    registry = CollectorRegistry()
    Gauge("vllm:num_requests_running", "", registry=registry).set(3)
    assert read_engine(registry) is None


def test_an_engine_is_known_once_it_has_reported(reported: PausePrometheus) -> None:
    assert read_engine(REGISTRY) is None
    metrics = PauseMetrics()
    metrics.set_gauges({"device_tokens": 1000})
    report(reported, metrics)
    numbers = read_engine(REGISTRY)
    assert numbers is not None
    assert (numbers.pauses, numbers.device_tokens, numbers.endpoints) == (0, 1000, ())


def test_paused_contexts_are_held_copied_or_dropped(reported: PausePrometheus) -> None:
    metrics = PauseMetrics()
    metrics.set_gauges(
        {
            "pauses_now": 9,
            "holding_now": 4,
            "copied_now": 3,
            "held_tokens_now": 600,
            "device_tokens": 1000,
            "host_tokens": 500,
            "host_tokens_now": 50,
        }
    )
    report(reported, metrics)
    numbers = read_engine(REGISTRY)
    assert numbers is not None
    assert (numbers.holding, numbers.copied, numbers.dropped) == (4, 3, 2)
    assert (numbers.held_tokens, numbers.device_tokens) == (600, 1000)
    assert (numbers.host_used_tokens, numbers.host_tokens) == (50, 500)


def test_durations_are_compared_over_the_pauses_that_were_predicted(
    reported: PausePrometheus,
) -> None:
    metrics = PauseMetrics()
    for _ in range(4):
        metrics.count("pauses", labels=("search",))
    metrics.count("pauses", labels=("human",))
    metrics.count("returns", 2, ("search",))
    metrics.count("predicted_seconds", 5.0, ("search",))
    metrics.count("returned_seconds", 8.0, ("search",))
    report(reported, metrics)
    numbers = read_engine(REGISTRY)
    assert numbers is not None
    assert numbers.endpoints == (
        EndpointNumbers("search", 4, 2, 2.5, 4.0),
        EndpointNumbers("human", 1, 0, None, None),
    )


def test_engines_are_added_up(reported: PausePrometheus) -> None:
    for engine in (0, 1):
        metrics = PauseMetrics()
        metrics.set_gauges({"pauses_now": 2})
        metrics.count("recomputed_tokens", 6, ("evicted",))
        metrics.count("recomputed_tokens", 4, ("template",))
        metrics.count("device_token_seconds", 50.0)
        for cause, token_seconds in (("held", 10.0), ("recomputed", 4.5), ("copied", 0.5)):
            metrics.count("waste_token_seconds", token_seconds, (cause,))
        metrics.count("pause_endings", labels=("search", "resumed"))
        report(reported, metrics, engine)
    numbers = read_engine(REGISTRY)
    assert numbers is not None
    assert (numbers.pauses, numbers.recomputed_tokens_total) == (4, 20)
    assert numbers.pause_endings == {"resumed": 2}
    assert numbers.device_token_seconds_total == 100
    assert numbers.held_token_seconds_total == 20
    assert numbers.recomputed_token_seconds_total == 9
    assert numbers.copied_token_seconds_total == 1


def test_memory_in_use_is_of_each_engine_its_own(reported: PausePrometheus) -> None:
    unregister_vllm_metrics()  # an engine of another test may have left its own
    usage = Gauge("vllm:kv_cache_usage_perc", "", ["model_name", "engine"])
    try:
        for engine, tokens, used in ((0, 1000, 0.5), (1, 3000, 0.25)):
            metrics = PauseMetrics()
            gauges = {"device_tokens": tokens, "tokens_in_charge": tokens // 10}
            metrics.set_gauges({**gauges, "pauses_now": engine + 1})
            report(reported, metrics, engine)
            usage.labels("demo", engine).set(used)
        numbers = read_engine(REGISTRY)
    finally:
        REGISTRY.unregister(usage)
    assert numbers is not None
    assert (numbers.device_tokens, numbers.active_tokens) == (4000, 500 + 750)
    first, second = numbers.engines
    assert (first.engine, first.used_tokens, first.pauses) == ("0", 500, 1)
    assert (second.engine, second.used_tokens, second.pauses) == ("1", 750, 2)
    assert (first.tokens_in_charge, second.tokens_in_charge) == (100, 300)


def test_a_tool_that_was_never_called_is_listed_too() -> None:
    registry = CollectorRegistry()
    metrics = tool_metrics(registry)
    metrics.calls.labels("search", "succeeded").inc(3)
    metrics.calls.labels("search", "failed").inc()
    metrics.seconds.labels("search").observe(2.0)
    metrics.seconds.labels("search").observe(4.0)
    metrics.retries.labels("search").inc()
    searched, unused = read_tools(registry, ["search", "unused"])
    assert (searched.name, searched.calls) == ("search", {"succeeded": 3, "failed": 1})
    assert (searched.mean_seconds, searched.retries) == (3.0, 1)
    assert (unused.calls, unused.mean_seconds) == ({}, None)
