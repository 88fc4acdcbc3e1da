"""Statistics, names and traces that fail: sessions go on, token for token."""

from collections.abc import Callable
from pathlib import Path

import pytest

from caesura.engine.guard import Aside
from caesura.engine.metrics import counter_key
from engine.virtual.engine import Shape
from engine.virtual.stage import Stage


def fails(*args: object, **options: object) -> None:
    raise RuntimeError("it fails")


def learning(stage: Stage) -> None:
    policy = stage.scheduler.keeper.policy
    policy.ended = policy.expected_seconds = fails  # type: ignore[method-assign,assignment]


def names(stage: Stage) -> None:
    scheduler = stage.scheduler
    scheduler.continuations.tools_called = scheduler.metrics.guard.wrap(Aside.NAMES, fails, [])


def statistics(stage: Stage) -> None:
    stage.scheduler._publish_metrics = fails  # type: ignore[method-assign]


def waste(stage: Stage) -> None:
    stage.scheduler.waste._pass_time = fails  # type: ignore[method-assign]


CASES = {
    "learning": (Aside.LEARNING, learning),
    "names": (Aside.NAMES, names),
    "statistics": (Aside.STATISTICS, statistics),
    "waste": (Aside.STATISTICS, waste),
}


def play(stage: Stage) -> None:
    """Sessions in place and of clients pause, return and end; transcripts are checked."""
    session = stage.session("session", 60)
    stage.run()
    stage.scheduler.report_progress("session", None, None, "a|b\ud800")
    stage.extend(session, 20)
    stage.run()
    client = stage.request("client", 40, 3, endpoint="\ud800|\n")
    stage.run()
    client.transcript.append(stage.words(10))
    client.name = "again"
    stage.submit(client, 2)
    stage.run()
    assert session.turns == 2
    assert client.tokens == 5


@pytest.mark.parametrize(("kind", "broken"), CASES.values(), ids=CASES)
def test_the_engine_goes_on(kind: Aside, broken: Callable[[Stage], None]) -> None:
    stage = Stage(Shape(options={"policy": "min-waste", "check_integrity": True}))
    broken(stage)
    play(stage)
    stats = stage.scheduler.metrics.take()
    assert stats is not None
    failures = {key for key in stats.data["counters"] if "failures" in key}
    assert failures == {counter_key("failures", kind)}


def test_a_trace_that_fails_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caesura.engine.tracing.trace_events.TraceEvents.slice", fails)
    monkeypatch.setattr("caesura.engine.tracing.trace_events.write_trace", fails)
    path = tmp_path / "trace.json"
    stage = Stage(Shape(options={"policy": "min-waste", "trace": str(path)}))
    play(stage)
    stage.scheduler.reset_prefix_cache()
    stats = stage.scheduler.metrics.take()
    assert stats is not None
    assert stats.data["counters"][counter_key("failures", Aside.TRACE)] > 0
    assert not path.exists()


def test_a_fault_of_the_books_still_ends_it() -> None:
    stage = Stage(Shape(options={"policy": "min-waste"}))
    session = stage.session("session", 60)
    stage.run()
    request = stage.scheduler.parking.parked("session")
    assert request is not None
    with pytest.raises(AssertionError, match="cannot be"):
        stage.scheduler.parking.stop(request)
    assert session.turns == 1
