"""The way of counts from the scheduler to `/metrics`."""

from collections.abc import Iterator
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

from caesura.engine.metrics import (
    STEP_SECONDS,
    STEPS_KEPT,
    STEPS_SENT,
    PauseMetrics,
    PausePrometheus,
    PauseStats,
    label_value,
    unregister_metrics,
)

TYPES = {Counter: Counter, Gauge: Gauge, Histogram: Histogram}
ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # lone surrogates, too


@pytest.fixture
def prometheus() -> Iterator[PausePrometheus]:
    config = SimpleNamespace(kv_transfer_config=None)
    yield PausePrometheus(config, TYPES, ["engine"], {0: ["0"]})
    unregister_metrics()


def sent(metrics: PauseMetrics) -> dict[str, object]:
    """As it arrives in the API process."""
    stats = metrics.take()
    assert stats is not None
    return msgspec.msgpack.decode(msgspec.msgpack.encode(stats.to_dict()))


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"caesura:{name}", {"engine": "0", **labels})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.tuples(ANY_TEXT, ANY_TEXT))
@example(labels=("a|b", "|"))
@example(labels=("", ""))
@example(labels=("\ud800", '"\n\\'))
@example(labels=("x" * 2**20, "y"))
def test_any_label_arrives_as_it_was(prometheus: PausePrometheus, labels: tuple[str, str]) -> None:
    endpoint, ending = map(label_value, labels)
    before = shown("pause_endings_total", endpoint=endpoint, ending=ending) or 0
    metrics = PauseMetrics()
    metrics.count("pause_endings", 2, labels=labels)
    prometheus.observe(sent(metrics))
    assert shown("pause_endings_total", endpoint=endpoint, ending=ending) == before + 2
    assert generate_latest(REGISTRY)
    assert not shown("failures_total", kind="statistics")


@given(first=st.lists(ANY_TEXT), second=st.lists(ANY_TEXT))
def test_counters_of_different_labels_are_not_mixed_up(first: list[str], second: list[str]) -> None:
    metrics = PauseMetrics()
    metrics.count("pauses", labels=tuple(first))
    metrics.count("pauses", labels=tuple(second))
    counters = sent(metrics)["counters"]
    assert isinstance(counters, dict)
    assert len(counters) == (1 if first == second else 2)


def test_what_cannot_be_shown_is_counted_and_the_rest_is_shown(
    prometheus: PausePrometheus, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = PauseMetrics()
    metrics.count("pauses", labels=("too", "many", "labels"))
    metrics.count("held_tokens", -1)
    metrics.count("of_another_version")
    metrics.count("copied_tokens", 7)
    prometheus.observe(sent(metrics))
    assert shown("copied_tokens_total") == 7
    assert shown("failures_total", kind="statistics") == 3
    assert len(caplog.records) == 1, "once per kind"


def test_steps_are_shown_by_part(prometheus: PausePrometheus) -> None:
    metrics = PauseMetrics()
    metrics.note_step({"decide": 0.003, "settle": 0.0001})
    metrics.note_step({"decide": 0.3})
    metrics.count("interrupts")
    prometheus.observe(sent(metrics))
    assert shown("step_seconds_count", part="decide") == 2
    assert shown("step_seconds_bucket", part="decide", le="0.005") == 1
    assert shown("step_seconds_count", part="settle") == 1


def test_times_of_steps_alone_are_sent_now_and_then() -> None:
    metrics = PauseMetrics()
    for _ in range(STEPS_SENT - 1):
        metrics.note_step({"decide": 0.1})
        assert metrics.take() is None
    metrics.note_step({"decide": 0.1})
    stats = metrics.take()
    assert stats is not None
    assert stats.is_empty(), "vLLM's log has nothing to say of them"
    assert metrics.take() is None


def test_where_nobody_takes_them_times_of_steps_are_not_kept_without_end() -> None:
    metrics = PauseMetrics()
    for _ in range(2 * STEPS_KEPT):
        metrics.note_step({"decide": 0.1})
    stats = metrics.take()
    assert stats is not None
    assert len(stats.data[STEP_SECONDS]["decide"]) == STEPS_KEPT


def test_what_is_summed_up_for_the_log_is_by_counter() -> None:
    total = PauseStats(data={})
    for endpoint in ("a|b", "search"):
        metrics = PauseMetrics()
        metrics.count("pauses", labels=(endpoint,))
        metrics.set_gauges({"pauses_now": 3})
        stats = metrics.take()
        assert stats is not None
        total.aggregate(stats)
    assert total.reduce() == {"pauses": 2, "pauses_now": 3}
