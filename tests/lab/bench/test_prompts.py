import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.lab.bench.prompts import Prompts
from caesura.lab.bench.workload import Segment, WorkloadError, WorkloadSession

SESSION = WorkloadSession("a", "math", (Segment(40, 5, 0.1), Segment(7, 5)))
OTHER_KIND = WorkloadSession("b", "qa", SESSION.segments)


@given(
    st.integers(0, 2**32),
    st.integers(0, 10**6),
    st.lists(st.integers(1, 50), min_size=1, max_size=4),
)
def test_prompts_have_the_asked_lengths_and_repeat(
    seed: int, index: int, appends: list[int]
) -> None:
    spec = WorkloadSession("a", "math", tuple(Segment(append, 1) for append in appends))
    prompts = Prompts(vocab_size=100, seed=seed).of(index, spec)
    assert [len(tokens) for tokens in prompts] == appends
    assert all(0 <= token < 100 for tokens in prompts for token in tokens)
    assert prompts == Prompts(vocab_size=100, seed=seed).of(index, spec)


def test_sessions_and_seeds_have_tokens_of_their_own() -> None:
    prompts = Prompts(vocab_size=1000, seed=1)
    first = prompts.of(0, SESSION)[0]
    assert first != prompts.of(1, SESSION)[0]
    assert first != Prompts(vocab_size=1000, seed=2).of(0, SESSION)[0]


def test_reserved_ids_never_occur() -> None:
    reserved = frozenset(range(10)) | {15}
    prompts = Prompts(vocab_size=20, seed=1, reserved_token_ids=reserved)
    seen = {t for index in range(20) for tokens in prompts.of(index, SESSION) for t in tokens}
    assert seen == {10, 11, 12, 13, 14, 16, 17, 18, 19}


def test_a_prefix_is_shared_within_a_kind_only() -> None:
    prompts = Prompts(vocab_size=1000, seed=1, shared_prefix_tokens=30)
    first, second, other = (
        prompts.of(0, SESSION)[0],
        prompts.of(1, SESSION)[0],
        prompts.of(2, OTHER_KIND)[0],
    )
    assert len(first) == len(second) == 40
    assert first[:30] == second[:30]
    assert first[30:] != second[30:]
    assert first[:30] != other[:30]


def test_a_prompt_shorter_than_the_prefix_keeps_a_token_of_its_own() -> None:
    prompts = Prompts(vocab_size=1000, seed=1, shared_prefix_tokens=100)
    first, second = prompts.of(0, SESSION)[0], prompts.of(1, SESSION)[0]
    assert first[:39] == second[:39]
    assert first[39] != second[39]


def test_impossible_prompts_are_refused() -> None:
    with pytest.raises(WorkloadError, match="reserved"):
        Prompts(vocab_size=2, seed=1, reserved_token_ids=frozenset({0, 1}))
    with pytest.raises(WorkloadError, match="negative"):
        Prompts(vocab_size=2, seed=1, shared_prefix_tokens=-1)
