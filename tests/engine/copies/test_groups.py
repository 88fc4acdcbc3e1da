"""Which blocks a boundary needs in each KV cache group."""

from itertools import product

import pytest
from vllm.v1.core.kv_cache_utils import get_block_hash, get_group_id

from caesura.engine.copies.groups import ONE_GROUP, Groups, groups_of
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.stage import Stage
from support.engines.blocks import hashes

CONTEXT = hashes("abcdefgh")


def groups(*windows: int, larger: int = 1) -> Groups:
    """Of an engine with full attention and these windows, in tokens."""
    shape = Shape(blocks=100, windows=windows, window_block_size=larger * BLOCK_SIZE)
    return groups_of(Stage(shape).scheduler.kv_cache_manager.coordinator)


def named(of: Groups, first: int, end: int, *, whole: bool = False) -> str:
    """The blocks between two boundaries, as their letter and group."""
    keys = [of.device_key(key) for key in of.keys(CONTEXT, first, end, whole=whole)]
    return " ".join(f"{get_block_hash(key).decode()}{get_group_id(key)}" for key in keys)


def test_with_full_attention_alone_a_boundary_needs_the_blocks_before_it() -> None:
    of = groups()
    assert of is ONE_GROUP
    assert named(of, 2, 5) == "c0 d0 e0"
    assert of.pick([[10, 11, 12, 13, 14, 15]], 2, 5) == [12, 13, 14]
    assert of.hash_ends(2, 5) == [3, 4, 5]
    assert of.memory_blocks(5) == 5


@pytest.mark.parametrize(
    ("window", "needed"),
    [(1, ""), (2, "e1"), (BLOCK_SIZE + 1, "e1"), (BLOCK_SIZE + 2, "d1 e1")],
)
def test_a_window_needs_what_the_next_token_sees(window: int, needed: str) -> None:
    assert named(groups(window), 0, 5) == f"a0 b0 c0 d0 e0 {needed}".strip()


def test_what_is_there_at_a_boundary_is_not_needed_again() -> None:
    of = groups(2 * BLOCK_SIZE)
    assert named(of, 4, 5) == "e0 e1"
    assert named(of, 4, 5, whole=True) == "e0 d1 e1", "the boundary before may be lost"
    assert named(of, 5, 5) == ""
    assert of.pick([range(8), range(10, 18)], 4, 5, whole=True) == [4, 13, 14]
    assert of.memory_blocks(5) == 7


def test_boundaries_are_where_blocks_of_all_groups_end() -> None:
    of = groups(2 * BLOCK_SIZE, larger=2)
    assert of.boundaries(CONTEXT) == 4
    assert of.boundaries(CONTEXT[:7]) == 3
    assert named(of, 1, 2) == "c0 d0 d1"
    assert of.hash_ends(1, 2) == [3, 4, 4]


@pytest.mark.parametrize("windows", [(20,), (33, 16), (50, 50)])
@pytest.mark.parametrize("larger", [1, 2])
def test_the_last_boundary_that_all_groups_reach_is_found(
    windows: tuple[int, ...], larger: int
) -> None:
    """Against all boundaries tried one by one, with any two blocks that lack."""
    of = groups(*windows, larger=larger)
    last = of.boundaries(CONTEXT)
    keys = {key for end in range(last + 1) for key in of.keys(CONTEXT, 0, end)}
    for one, other, first in product(sorted(keys), sorted(keys), (0, 1)):

        def has(key: bytes, lacking: tuple[bytes, bytes] = (one, other)) -> bool:
            return key not in lacking

        tried = (
            end for end in range(last, first, -1) if all(map(has, of.keys(CONTEXT, first, end)))
        )
        assert of.reach(has, CONTEXT, first, last) == next(tried, first)
