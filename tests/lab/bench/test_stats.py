from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.lab.bench.engines import EngineCounters
from caesura.lab.bench.rows import Ratio, policy_rows
from caesura.lab.bench.stats import (
    Percentiles,
    RunPlan,
    Window,
    measure,
    necessary_tokens,
    normalized_latencies_ms,
    normalized_latency_ms,
    percentiles,
)
from support.lab.bench_records import (
    YARDSTICK,
    completed_session,
    cut_session,
    outcome,
    replay_of,
    unstarted_session,
)

PLAN = RunPlan("stock", seed=0, rate=1.0)


def test_normalized_latency_leaves_out_pauses() -> None:
    session = completed_session(arrived_at=3.0, latency_seconds=0.8)
    assert normalized_latency_ms(session) == pytest.approx(100.0)  # 0.8 s for 8 tokens


def test_only_completed_sessions_have_a_normalized_latency() -> None:
    replay = replay_of(completed_session(0, 0.8), cut_session(1), unstarted_session(2))
    assert normalized_latencies_ms(replay) == pytest.approx([100.0])


def test_ttft_is_of_turns_that_have_a_token_first_and_resumed_ones_apart() -> None:
    replay = replay_of(completed_session(0, 0.8), cut_session(1), unstarted_session(2))
    report = measure(PLAN, replay, EngineCounters(), YARDSTICK)
    assert report.resume_ttft_ms.mean == report.resume_ttft_ms.p99 == pytest.approx(20.0)
    assert report.first_ttft_ms.mean == pytest.approx((10 + 100) / 2)


def test_completion_is_end_to_end_without_pauses() -> None:
    replay = replay_of(completed_session(0, 0.8), completed_session(3, 1.0), cut_session(1))
    completion = measure(PLAN, replay, EngineCounters(), YARDSTICK).completion_s
    assert (completion.p50, completion.p99) == pytest.approx((0.9, 0.998))


def test_goodput_is_the_share_of_good_sessions_of_the_rate_they_arrive_at() -> None:
    plan = RunPlan("ours", seed=0, rate=6.0)
    # Unloaded: 21 ms of prefills and 6 tokens of 50 ms; 3 times that is 0.963 s.
    sessions = [completed_session(at, latency) for at, latency in ((0, 0.9), (1, 0.96), (2, 0.97))]
    report = measure(plan, replay_of(*sessions), EngineCounters(), YARDSTICK)
    assert report.goodput_per_second == pytest.approx(6.0 * 2 / 3)


def test_only_sessions_that_arrive_in_the_window_are_measured() -> None:
    sessions = [completed_session(at, 0.8) for at in (0.0, 1.9, 2.0, 9.9, 10.0)]
    window = Window(2.0, 10.0)
    report = measure(PLAN, replay_of(*sessions), EngineCounters(), YARDSTICK, arrivals=window)
    assert (report.sessions, report.measured_sessions) == (5, 2)
    assert report.goodput_per_second == pytest.approx(2 / 8)
    open_ended = Window(2.0)
    report = measure(PLAN, replay_of(*sessions), EngineCounters(), YARDSTICK, arrivals=open_ended)
    assert report.measured_sessions == 3
    assert report.goodput_per_second == pytest.approx(PLAN.rate)


def test_necessary_tokens_are_those_of_started_turns_less_one_per_session() -> None:
    assert necessary_tokens(replay_of(completed_session(0, 1))) == 27
    assert necessary_tokens(replay_of(cut_session(0))) == 23
    assert necessary_tokens(replay_of(unstarted_session(0))) == 0


def test_throughput_is_from_first_arrival_to_last_completion() -> None:
    replay = replay_of(completed_session(2.0, 0.5), completed_session(3.0, 1.0), cut_session(2.5))
    report = measure(PLAN, replay, EngineCounters(), YARDSTICK)
    assert report.completed_per_second == pytest.approx(2 / 3)
    assert (report.sessions, report.completed) == (3, 2)


def test_recomputed_tokens_are_what_was_scheduled_beyond_the_necessary() -> None:
    replay = replay_of(completed_session(0, 1))
    assert (
        measure(PLAN, replay, EngineCounters(scheduled_tokens=40), YARDSTICK).recomputed_tokens
        == 13
    )
    assert (
        measure(PLAN, replay, EngineCounters(scheduled_tokens=20), YARDSTICK).recomputed_tokens == 0
    )


def test_recomputed_tokens_are_unknown_rather_than_wrong() -> None:
    counted = EngineCounters(scheduled_tokens=100)
    replay = replay_of(completed_session(0, 1))
    assert measure(PLAN, replay, EngineCounters(), YARDSTICK).recomputed_tokens is None
    assert (
        measure(PLAN, replay, counted, replace(YARDSTICK, shared_prefix_tokens=1)).recomputed_tokens
        is None
    )
    cut = replay_of(completed_session(0, 1), cut_session(0))
    assert measure(PLAN, cut, counted, YARDSTICK).recomputed_tokens is None


def test_a_run_in_which_nothing_completed_has_unknown_figures() -> None:
    report = measure(PLAN, replay_of(unstarted_session(0)), EngineCounters(), YARDSTICK)
    assert report.normalized_latency_ms == report.resume_ttft_ms == Percentiles()
    assert report.first_ttft_ms == report.completion_s == Percentiles()
    assert report.goodput_per_second == 0
    assert report.longest_wait_s is report.wait_context_correlation is None
    assert report.completed_per_second is None
    (row,) = policy_rows([report])
    assert row.ratio is None
    assert row.recomputed_share is None


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_are_within_the_values_and_in_order(values: list[float]) -> None:
    found = percentiles(values)
    assert found.p50 is not None
    assert found.mean is not None
    assert found.p90 is not None
    assert found.p95 is not None
    assert found.p99 is not None
    assert min(values) <= found.p50 <= found.p90 <= found.p95 <= found.p99 <= max(values)
    assert min(values) * 0.999 <= found.mean <= max(values) * 1.001


def test_ratios_are_paired_by_seed_and_rate() -> None:
    runs = [
        outcome("stock", 0, 1.0, 1.0).report,
        outcome("ours", 0, 1.0, 0.5).report,
        outcome("ours", 1, 1.0, 0.5).report,
        outcome("stock", 1, 1.0, 4.0).report,
        outcome("stock", 2, 1.0, 2.0).report,
        outcome("ours", 2, 1.0, 0.5).report,
        outcome("ours", 3, 1.0, 0.001).report,  # stock has no run of this seed
        outcome("stock", 0, 2.0, 8.0).report,
    ]
    stock, ours, stock_fast = policy_rows(runs)
    assert (stock.policy, ours.policy, stock_fast.rate) == ("stock", "ours", 2.0)
    assert ours.ratio is not None
    assert ours.ratio.seeds == 3
    ratio = (ours.ratio.median, ours.ratio.low, ours.ratio.high)
    assert ratio == pytest.approx((4.0, 2.0, 8.0))
    assert stock.ratio == Ratio(1.0, 1.0, 1.0, 3, complete=True)
    assert ours.seeds == 4


def test_a_ratio_says_when_stock_or_the_policy_left_sessions_unfinished() -> None:
    runs = [
        outcome("stock", 0, 1.0, 1.0, cut_session(0)).report,
        outcome("ours", 0, 1.0, 0.5).report,
    ]
    _, ours = policy_rows(runs)
    assert ours.ratio is not None
    assert not ours.ratio.complete


def test_without_stock_there_is_no_ratio() -> None:
    (row,) = policy_rows([outcome("ours", 0, 1.0, 0.5).report])
    assert row.ratio is None


def test_a_row_has_medians_over_seeds_and_the_share_of_all_tokens() -> None:
    runs = [
        outcome("ours", seed, 1.0, latency, scheduled_tokens=scheduled).report
        for seed, (latency, scheduled) in enumerate([(0.8, 27), (1.6, 54), (8.0, 27)])
    ]
    (row,) = policy_rows(runs)
    assert row.normalized_latency_ms.mean == pytest.approx(200.0)
    assert row.recomputed_share == pytest.approx(27 / 108)
    assert (row.sessions, row.completed) == (3, 3)


def test_one_run_with_unknown_recomputation_makes_the_share_unknown() -> None:
    runs = [
        outcome("ours", 0, 1.0, 0.8, scheduled_tokens=30).report,
        outcome("ours", 1, 1.0, 0.8).report,
    ]
    (row,) = policy_rows(runs)
    assert row.recomputed_share is None
