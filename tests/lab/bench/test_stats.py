import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.lab.bench.engines import EngineCounters
from caesura.lab.bench.stats import (
    Percentiles,
    Ratio,
    RunPlan,
    measure,
    necessary_tokens,
    normalized_latencies_ms,
    normalized_latency_ms,
    percentiles,
    policy_rows,
    resume_ttfts_ms,
)
from support.lab.bench_records import (
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


def test_resume_ttft_is_of_turns_after_a_pause_that_have_a_token() -> None:
    replay = replay_of(completed_session(0, 0.8), cut_session(1), unstarted_session(2))
    assert resume_ttfts_ms(replay) == pytest.approx([20.0])


def test_necessary_tokens_are_those_of_started_turns_less_one_per_session() -> None:
    assert necessary_tokens(replay_of(completed_session(0, 1))) == 27
    assert necessary_tokens(replay_of(cut_session(0))) == 23
    assert necessary_tokens(replay_of(unstarted_session(0))) == 0


def test_throughput_is_from_first_arrival_to_last_completion() -> None:
    replay = replay_of(completed_session(2.0, 0.5), completed_session(3.0, 1.0), cut_session(2.5))
    report = measure(PLAN, replay, EngineCounters())
    assert report.completed_per_second == pytest.approx(2 / 3)
    assert (report.sessions, report.completed) == (3, 2)


def test_recomputed_tokens_are_what_was_scheduled_beyond_the_necessary() -> None:
    replay = replay_of(completed_session(0, 1))
    assert measure(PLAN, replay, EngineCounters(scheduled_tokens=40)).recomputed_tokens == 13
    assert measure(PLAN, replay, EngineCounters(scheduled_tokens=20)).recomputed_tokens == 0


def test_recomputed_tokens_are_unknown_rather_than_wrong() -> None:
    counted = EngineCounters(scheduled_tokens=100)
    replay = replay_of(completed_session(0, 1))
    assert measure(PLAN, replay, EngineCounters()).recomputed_tokens is None
    assert measure(PLAN, replay, counted, prompts_shared=True).recomputed_tokens is None
    cut = replay_of(completed_session(0, 1), cut_session(0))
    assert measure(PLAN, cut, counted).recomputed_tokens is None


def test_a_run_in_which_nothing_completed_has_unknown_figures() -> None:
    report = measure(PLAN, replay_of(unstarted_session(0)), EngineCounters())
    unknown = Percentiles(None, None, None)
    assert report.normalized_latency_ms == report.resume_ttft_ms == unknown
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
    assert min(values) <= found.p50 <= found.p90 <= max(values)
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
