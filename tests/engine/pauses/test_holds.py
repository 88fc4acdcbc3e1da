"""References that keep a paused context's blocks on the device."""

from caesura.engine.copies.blocks import forget_blocks, full_blocks, sole_blocks
from caesura.engine.pauses.holds import OwnBlocks, References
from engine.virtual.engine import Shape
from engine.virtual.stage import Stage
from support.engines.blocks import BLOCK_SIZE, computed, context, found, new_pool


def test_a_hold_keeps_blocks_when_their_request_is_gone() -> None:
    pool = new_pool(4)
    blocks = computed(pool, "abc")
    hold = References(pool, context(blocks))
    pool.free_blocks(reversed(blocks))
    assert hold.tokens == 3 * BLOCK_SIZE
    assert pool.get_num_free_blocks() == 1


def test_the_tail_of_a_hold_is_given_back_and_overwritten_from_its_end() -> None:
    pool = new_pool(4)
    blocks = computed(pool, "abcd")
    hold = References(pool, context(blocks))
    pool.free_blocks(reversed(blocks))
    hold.move(context(blocks[:1]))
    assert (hold.tokens, hold.blocks()) == (BLOCK_SIZE, blocks[:1])
    assert pool.get_num_free_blocks() == 3
    pool.get_new_blocks(2)
    assert found(pool, "abcd") == "ab"


def test_a_hold_grows_at_its_end() -> None:
    pool = new_pool(4)
    blocks = computed(pool, "abc")
    hold = References(pool, context(blocks[:1]))
    hold.move(context(blocks))
    pool.free_blocks(reversed(blocks))
    assert (hold.tokens, pool.get_num_free_blocks()) == (3 * BLOCK_SIZE, 1)


def test_own_blocks_count_the_partly_filled_one() -> None:
    on = Stage(Shape())
    on.session("session", BLOCK_SIZE + 5)
    on.run()
    pause = on.scheduler.keeper.table.get("session")
    assert pause is not None
    assert isinstance(pause.hold, OwnBlocks)
    assert (pause.held_tokens, len(pause.hold.blocks())) == (BLOCK_SIZE + 5, 2)
    assert len(full_blocks(pause.hold.blocks())) == 1


def test_full_blocks_end_at_the_first_that_cannot_be_found() -> None:
    pool = new_pool(4)
    blocks = computed(pool, "abc")
    pool.evict_blocks({blocks[1].block_id})
    assert full_blocks(blocks) == blocks[:1]
    assert full_blocks([pool.null_block, *blocks]) == []


def test_only_blocks_with_one_reference_come_free_with_it() -> None:
    pool = new_pool(4)
    blocks = computed(pool, "abc")
    pool.touch(blocks[:1])
    assert sole_blocks(blocks) == blocks[1:]


def test_forgotten_blocks_are_reused_first_and_shared_ones_stay() -> None:
    pool = new_pool(4)
    shared, alone = computed(pool, "a"), computed(pool, "bc")
    pool.free_blocks(reversed(alone))
    forget_blocks(pool, [*shared, *alone])
    assert found(pool, "abc") == "a"
    assert {block.block_id for block in pool.get_new_blocks(2)} == {
        block.block_id for block in alone
    }
