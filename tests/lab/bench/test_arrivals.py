import pytest

from caesura.lab.bench.arrivals import ArrivalPlan
from caesura.lab.bench.presets import load_workload
from caesura.lab.bench.workload import WorkloadError, poisson_arrivals

PLAN = ArrivalPlan("infercept-sample", 1.0, 1.0, 1_000_000)
SHORT = ArrivalPlan("infercept-sample", 1.0, 1.0, 1500)


def test_sessions_arrive_over_the_whole_horizon_and_not_after_it() -> None:
    arrivals = PLAN.until(50.0, 4.0, seed=3)
    assert len(arrivals.sessions) == len(arrivals.seconds)
    assert 140 < len(arrivals.seconds) < 260
    assert 45 < arrivals.seconds[-1] < 50
    assert (arrivals.truncated, arrivals.dropped) == (0, 0)
    assert arrivals == PLAN.until(50.0, 4.0, seed=3)
    assert arrivals != PLAN.until(50.0, 4.0, seed=4)


def test_a_number_of_sessions_is_drawn_as_on_the_engine() -> None:
    arrivals = PLAN.first(20, 2.0, seed=1)
    assert list(arrivals.sessions) == load_workload("infercept-sample", 20, 1)
    assert list(arrivals.seconds) == poisson_arrivals(20, 2.0, 1)


def test_dropped_sessions_leave_no_gap_and_are_counted() -> None:
    arrivals = SHORT.until(50.0, 4.0, seed=0)
    assert arrivals.seconds == PLAN.until(50.0, 4.0, seed=0).seconds[: len(arrivals.seconds)]
    assert arrivals.seconds[-1] > 45
    assert all(session.context_tokens <= 1500 for session in arrivals.sessions)
    assert arrivals.truncated > 0
    assert arrivals.dropped > 0


def test_a_workload_of_which_nothing_fits_is_refused() -> None:
    with pytest.raises(WorkloadError, match="no session of the workload fits a context of 3 "):
        ArrivalPlan("infercept-sample", 1.0, 1.0, 3).until(10.0, 1.0, 0)
