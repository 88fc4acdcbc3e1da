"""Waits and objectives on sessions with round numbers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.lab.bench.replay import ReplayedSession, ReplayedTurn, ReplayEnding
from caesura.lab.bench.service import (
    ServedSession,
    ServedTurn,
    ServiceGoal,
    correlation,
    longest_wait_seconds,
    served,
    wait_context_correlation,
    wait_length_correlation,
)
from support.lab.bench_records import YARDSTICK, cut_session


def session(*turns: tuple[int, int, float, float, float]) -> ReplayedSession:
    """Turns of (append, output, submitted, first token, finished)."""
    played = [ReplayedTurn(*turn, endpoint=None, cached_tokens=None) for turn in turns]
    return ReplayedSession("s", "math", turns[0][2], tuple(played), ReplayEnding.COMPLETED)


def test_the_wait_is_what_the_first_token_takes_beyond_the_prefill_of_the_turn_alone() -> None:
    one = served(session((100, 3, 0, 0.5, 1), (10, 3, 4, 4.25, 5)), YARDSTICK)
    assert [turn.context_tokens for turn in one.turns] == [100, 113]
    assert [turn.ttft_seconds for turn in one.turns] == [0.5, 0.25]
    # 100 tokens at 1 ms; later the 10 appended ones, and the last one of the turn before.
    assert [turn.wait_seconds for turn in one.turns] == pytest.approx([0.4, 0.239])
    assert one.active_seconds == pytest.approx(2.0)
    assert one.unloaded_seconds == pytest.approx(0.111 + 4 * 0.05)
    assert one.output_tokens == 6


def test_what_sessions_share_is_not_to_be_computed_but_for_one_token() -> None:
    plain = session((100, 3, 0, 0.5, 1))
    for shared, wait in ((40, 0.44), (99, 0.499), (1000, 0.499)):
        yardstick = replace(YARDSTICK, shared_prefix_tokens=shared)
        assert served(plain, yardstick).turns[0].wait_seconds == pytest.approx(wait)


def test_a_turn_without_a_token_has_no_wait_and_its_session_is_not_good() -> None:
    cut = served(cut_session(0.0), YARDSTICK)
    assert len(cut.turns) == 1
    assert cut.active_seconds is None
    assert not cut.meets(ServiceGoal(1e9, 1e9))


def test_an_objective_is_met_when_every_turn_begins_in_time_and_the_session_is_not_slow() -> None:
    # 2 s of service, 0.311 s alone: 6.43 times as long; first tokens after 0.5 and 0.25 s.
    one = served(session((100, 3, 0, 0.5, 1), (10, 3, 4, 4.25, 5)), YARDSTICK)
    assert one.meets(ServiceGoal(0.5, 6.5))
    assert not one.meets(ServiceGoal(0.49, 6.5))
    assert not one.meets(ServiceGoal(0.5, 6.4))
    late = served(session((100, 3, 0, 0.25, 1), (10, 3, 4, 4.5, 5)), YARDSTICK)
    assert not late.meets(ServiceGoal(0.49, 6.5))


def waited(*turns: tuple[int, float], output_tokens: int = 5) -> ServedSession:
    """Turns of (context, wait)."""
    return ServedSession(
        tuple(ServedTurn(context, wait, wait) for context, wait in turns), output_tokens, 1.0, 1.0
    )


def test_correlations_are_of_turns_with_contexts_and_of_sessions_with_lengths() -> None:
    sessions = [
        waited((100, 3.0), (200, 2.0), output_tokens=1),
        waited((300, 1.0), output_tokens=2),
        waited((100, 3.0), (300, 1.0), (200, 2.0), output_tokens=3),
    ]
    assert wait_context_correlation(sessions) == pytest.approx(-1.0)
    assert wait_length_correlation(sessions) == pytest.approx(correlation([1, 2, 3], [2.5, 1, 2]))
    assert longest_wait_seconds(sessions) == 3.0


def test_what_does_not_vary_is_correlated_with_nothing() -> None:
    assert correlation([1, 2, 3], [0, 0, 0]) is None
    assert correlation([1, 1, 1], [0, 1, 2]) is None
    assert correlation([1, 2], [3, 4]) is None
    assert longest_wait_seconds([]) is None


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=3))
def test_a_correlation_is_between_minus_one_and_one_and_symmetric(
    pairs: list[tuple[int, int]],
) -> None:
    x, y = [a for a, _ in pairs], [b for _, b in pairs]
    found = correlation(x, y)
    if found is not None:
        assert -1.000001 <= found <= 1.000001
        assert correlation(y, x) == pytest.approx(found)
        assert correlation([2 * a + 7 for a in x], y) == pytest.approx(found)
