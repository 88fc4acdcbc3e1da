"""How much time of a step is Caesura's own."""

import pytest

from caesura.engine.metrics import STEP_SECONDS, PauseMetrics
from caesura.engine.pauses.own_time import SILENCE_SECONDS, SLOW_SECONDS, OwnTime, Part


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def steps(metrics: PauseMetrics) -> dict[str, list[float]]:
    metrics.count("interrupts")  # so that they are sent
    stats = metrics.take()
    assert stats is not None
    return {
        part: [round(seconds, 9) for seconds in noted]
        for part, noted in stats.data[STEP_SECONDS].items()
    }


def test_a_part_within_another_counts_for_itself() -> None:
    clock, metrics = Clock(), PauseMetrics()
    own_time = OwnTime(metrics, clock)
    with own_time(Part.SETTLE):
        clock.seconds += 1
        with own_time(Part.NAME):
            clock.seconds += 2
        clock.seconds += 4
    clock.seconds += 8  # vLLM's
    with own_time(Part.SETTLE):
        clock.seconds += 16
    own_time.end_step()
    assert steps(metrics) == {Part.SETTLE: [21.0], Part.NAME: [2.0]}


def test_a_part_that_fails_is_over() -> None:
    clock, metrics = Clock(), PauseMetrics()
    own_time = OwnTime(metrics, clock)

    def decide() -> None:
        with own_time(Part.DECIDE):
            clock.seconds += 1
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        decide()
    clock.seconds += 1
    own_time.end_step()
    assert steps(metrics) == {Part.DECIDE: [1.0]}


def test_a_slow_step_is_logged_with_its_parts_but_not_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    own_time = OwnTime(PauseMetrics(), clock)

    def step(decide: float, report: float) -> int:
        caplog.clear()
        with own_time(Part.DECIDE):
            clock.seconds += decide
        with own_time(Part.REPORT):
            clock.seconds += report
        own_time.end_step()
        return len(caplog.records)

    assert step(SLOW_SECONDS * 0.4, SLOW_SECONDS * 0.4) == 0
    assert step(SLOW_SECONDS * 0.4, SLOW_SECONDS) == 1
    assert "0.140 s on Caesura's own work: report 0.100, decide 0.040" in caplog.text
    assert step(SLOW_SECONDS, SLOW_SECONDS) == 0
    clock.seconds += SILENCE_SECONDS
    assert step(SLOW_SECONDS, SLOW_SECONDS) == 1
