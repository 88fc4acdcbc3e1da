import statistics
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.lab.bench.presets import PRESETS, load_workload
from caesura.lab.bench.synthesis import INFERCEPT_CLASSES, InterceptClass, LogNormal, draw_count
from caesura.lab.bench.workload import WorkloadError, WorkloadSession

NAMES = [preset.name for preset in PRESETS]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_gives_valid_sessions_that_repeat_by_seed(name: str) -> None:
    sessions = load_workload(name, 70, seed=1)
    assert len(sessions) == 70
    assert len({session.id for session in sessions}) == 70
    for session in sessions:
        assert min(min(s.append_tokens, s.output_tokens) for s in session.segments) >= 1
        assert all(s.pause_seconds is not None and s.endpoint for s in session.segments[:-1])
        assert session.segments[-1].pause_seconds is None
    assert sessions == load_workload(name, 70, seed=1)
    assert sessions != load_workload(name, 70, seed=2)


def test_the_sample_has_ten_sessions_of_each_class() -> None:
    sessions = load_workload("infercept-sample", 60, seed=0)
    assert set(Counter(session.kind for session in sessions).values()) == {10}


def test_the_mix_has_all_classes_alike() -> None:
    kinds = Counter(session.kind for session in load_workload("infercept-mix", 60, seed=0))
    assert kinds == {source.kind: 10 for source in INFERCEPT_CLASSES}


@pytest.fixture(scope="module")
def mix() -> list[WorkloadSession]:
    return load_workload("infercept-mix", 3000, seed=0)


@pytest.mark.parametrize("source", INFERCEPT_CLASSES, ids=lambda source: source.kind)
def test_the_mix_has_the_moments_of_the_table(
    mix: list[WorkloadSession], source: InterceptClass
) -> None:
    sessions = [session for session in mix if session.kind == source.kind]
    seconds = [s.pause_seconds for session in sessions for s in session.segments[:-1]]
    pauses = [len(session.segments) - 1 for session in sessions]
    contexts = [session.context_tokens for session in sessions]
    assert statistics.fmean(s for s in seconds if s) == pytest.approx(
        source.pause_seconds.mean, rel=0.1
    )
    assert statistics.fmean(pauses) == pytest.approx(source.pauses.mean, rel=0.15)
    assert statistics.stdev(pauses) == pytest.approx(source.pauses.deviation, rel=0.15)
    assert statistics.fmean(contexts) == pytest.approx(source.context_tokens.mean, rel=0.15)


@given(st.integers(0, 2**32))
def test_counts_are_at_least_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert all(draw_count(rng, source.pauses) >= 1 for source in INFERCEPT_CLASSES)


def test_a_matching_log_normal_has_the_moments() -> None:
    moments = INFERCEPT_CLASSES[3].pause_seconds
    rng = np.random.default_rng(0)
    drawn = [LogNormal.matching(moments).draw(rng) for _ in range(20_000)]
    assert statistics.fmean(drawn) == pytest.approx(moments.mean, rel=0.02)
    assert statistics.stdev(drawn) == pytest.approx(moments.deviation, rel=0.05)


def test_coding_agents_have_the_published_tool_times() -> None:
    sessions = load_workload("coding-agent", 200, seed=0)
    seconds = [s.pause_seconds or 0.0 for session in sessions for s in session.segments[:-1]]
    assert statistics.median(seconds) == pytest.approx(0.30, rel=0.15)
    assert float(np.percentile(seconds, 90)) == pytest.approx(13.6, rel=0.2)
    assert max(session.context_tokens for session in sessions) <= 200_000


def test_tools_are_short() -> None:
    sessions = load_workload("tools", 100, seed=0)
    seconds = [s.pause_seconds or 0.0 for session in sessions for s in session.segments[:-1]]
    assert max(seconds) <= 30
    assert statistics.median(seconds) < 1


def test_an_unknown_name_lists_the_presets() -> None:
    with pytest.raises(WorkloadError, match="neither a file nor a preset") as caught:
        load_workload("infercept", 10, seed=0)
    assert all(name in str(caught.value) for name in NAMES)


def test_no_sessions_are_refused() -> None:
    with pytest.raises(WorkloadError, match="at least one session"):
        load_workload("tools", 0, seed=0)
