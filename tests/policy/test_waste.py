"""InferCept's equations, with the constants that its authors released."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.lab.sim.profiles import GPT_J_6B_A100, VICUNA_13B_2X_A100, ReleasedProfile
from caesura.policy import CostModel, Disposition
from caesura.policy.waste import (
    break_even_seconds,
    chunk_tokens,
    chunked_discard_waste,
    least_waste,
    preserve_waste,
)

GPT_J = GPT_J_6B_A100.costs
VICUNA = VICUNA_13B_2X_A100.costs
PROFILES = pytest.mark.parametrize("profile", [GPT_J_6B_A100, VICUNA_13B_2X_A100])

costs = st.builds(
    CostModel,
    seconds_per_token=st.floats(1e-7, 1e-2),
    seconds_per_iteration=st.floats(0, 0.1),
)
contexts = st.integers(1, 200_000)
others = st.integers(0, 1_000_000)
chunks = st.integers(1, 8192)


def test_gpt_j_by_hand() -> None:
    # T_fwd(1000) = 0.0463 + 0.01 s; 4 chunks of 250: T_fwd(250) = 0.011575 + 0.01 s
    assert preserve_waste(1000, 2.5) == 2500
    assert chunked_discard_waste(GPT_J, 1000, 9000, chunk_tokens=300) == pytest.approx(
        0.0563 * 500 + 4 * 0.021575 * 9000
    )
    assert break_even_seconds(GPT_J, 1000, 9000, chunk_tokens=300) == pytest.approx(0.80485)


def test_vicuna_by_hand() -> None:
    # T_fwd(600) = 0.01674 + 0.0154 s; 2 chunks of 300: T_fwd(300) = 0.00837 + 0.0154 s
    assert chunked_discard_waste(VICUNA, 600, 10_000, chunk_tokens=352) == pytest.approx(
        0.03214 * 300 + 2 * 0.02377 * 10_000
    )


@PROFILES
@pytest.mark.parametrize("other", [10_000, 15_000, 20_000])
def test_published_break_even_is_half_a_second_to_two_at_any_context(
    profile: ReleasedProfile, other: int
) -> None:
    chunk = chunk_tokens(profile.saturation_tokens, running_query_tokens=30)
    break_evens = [
        break_even_seconds(profile.costs, context, other, chunk)
        for context in range(500, 8001, 100)
    ]
    assert min(break_evens) > 0.5
    assert max(break_evens) < 2.0
    assert max(break_evens) / min(break_evens) < 1.5


@PROFILES
@pytest.mark.parametrize(
    ("pause", "seconds", "disposition"),
    [
        ("math", 9e-5, Disposition.PRESERVE),
        ("environment", 0.09, Disposition.PRESERVE),
        ("image", 20.03, Disposition.DISCARD),
        ("speech", 17.24, Disposition.DISCARD),
        ("chat", 28.6, Disposition.DISCARD),
    ],
)
def test_short_pauses_are_preserved_and_long_ones_are_not(
    profile: ReleasedProfile, pause: str, seconds: float, disposition: Disposition
) -> None:
    assert least_waste(profile.costs, 1400, 15_000, 354, seconds).disposition is disposition


def test_chunk_is_what_running_requests_leave_below_saturation() -> None:
    assert chunk_tokens(384, 30) == 354
    assert chunk_tokens(384, 0) == 384
    assert chunk_tokens(384, 384) == chunk_tokens(384, 9999) == 1


@given(costs, others, chunks, st.floats(0, 1e6))
def test_an_empty_context_wastes_nothing(
    model: CostModel, other: int, chunk: int, pause: float
) -> None:
    assert chunked_discard_waste(model, 0, other, chunk) == 0
    assert break_even_seconds(model, 0, other, chunk) == 0
    assert least_waste(model, 0, other, chunk, pause).token_seconds == 0


@given(costs, contexts, chunks)
def test_alone_a_chunked_discard_wastes_half(model: CostModel, context: int, chunk: int) -> None:
    assert chunked_discard_waste(model, context, 0, chunk) == pytest.approx(
        model.forward_seconds(context) * context / 2
    )


@given(costs, contexts, others, chunks)
def test_published_chunks_win_unless_constants_dominate(
    model: CostModel, context: int, other: int, chunk: int
) -> None:
    count = -(-context // chunk)
    saved = model.forward_seconds(context) * context / 2
    added = (count - 1) * model.seconds_per_iteration * other
    whole = model.forward_seconds(context) * (context + other)  # eq (1)
    assert chunked_discard_waste(model, context, other, chunk) == pytest.approx(
        whole - saved + added, rel=1e-6
    )


@given(costs, contexts, others, chunks, st.integers(1, 1000))
def test_waste_grows_with_context_and_company(
    model: CostModel, context: int, other: int, chunk: int, more: int
) -> None:
    here = chunked_discard_waste(model, context, other, chunk)
    slack = 1e-9 * here
    assert chunked_discard_waste(model, context + more, other, chunk) >= here - slack
    assert chunked_discard_waste(model, context, other + more, chunk) >= here - slack


@given(costs, contexts, others, chunks, st.floats(0, 1e5))
def test_min_waste_turns_at_break_even(
    model: CostModel, context: int, other: int, chunk: int, pause: float
) -> None:
    chosen = least_waste(model, context, other, chunk, pause)
    turn = break_even_seconds(model, context, other, chunk)
    if pause < turn * (1 - 1e-9):
        assert chosen.disposition is Disposition.PRESERVE
    elif pause > turn * (1 + 1e-9):
        assert chosen.disposition is Disposition.DISCARD
    assert chosen.token_seconds <= preserve_waste(context, pause)
    assert chosen.token_seconds <= chunked_discard_waste(model, context, other, chunk)
