"""What host memory has of paused contexts, and what pauses are told of it."""

from collections.abc import Iterable

from vllm.v1.core.kv_cache_utils import KVCacheBlock

from caesura.engine.copies.contexts import HostContexts, HostCopy, Link
from caesura.engine.copies.host_pool import HostPool
from caesura.engine.copies.transfers import Transfers
from caesura.engine.metrics import PauseMetrics, counter_key
from caesura.policy import Memory
from support.engines.blocks import BLOCK_SIZE, computed, context, found, hashes, new_pool


class Contexts(HostContexts):
    """Contexts on a device of 16 blocks."""

    def __init__(self, slots: int = 8) -> None:
        self.pool = new_pool(16)
        self.transfers = Transfers(self.pool, HostPool(slots), budget_blocks=8)
        self.metrics = PauseMetrics()
        super().__init__(self.transfers, BLOCK_SIZE, self.metrics)

    def pause(self, context_id: str, letters: str) -> tuple[HostCopy, list[KVCacheBlock]]:
        """A context pauses with its blocks on the device."""
        return self.enter(context_id, hashes(letters)), computed(self.pool, letters)

    def step(self, *, succeeded: bool = True) -> None:
        """An iteration with its copies."""
        batch = self.transfers.next_batch()
        if batch is not None:
            report = {batch.id: 1}
            self.transfers.finish_batches(*((report, {}) if succeeded else ({}, report)))

    def counted(self) -> dict[str, float]:
        stats = self.metrics.take()
        return {} if stats is None else stats.data["counters"]


def nobody(lacking: int) -> Iterable[str]:
    raise AssertionError(f"{lacking} blocks too few")


def test_without_host_memory_nothing_is_copied_and_nobody_has_to_ask() -> None:
    contexts = Contexts(slots=0)
    copy, blocks = contexts.pause("p", "ab")
    contexts.copy_out(copy, context(blocks))
    contexts.save("p", context([]), 0, [], nobody)
    contexts.prefetch(copy, 0)
    contexts.claim(copy, "r")
    contexts.end(copy, forget=True)
    assert (copy.requested, copy.copied_blocks, copy.saved_blocks) == (False, 0, 0)
    assert contexts.take_progressed() == []
    assert list(contexts.take_prefetched()) == []
    assert (contexts.memory(), contexts.link()) == (Memory(0, 0), Link())
    assert contexts.is_empty()
    assert not contexts.pending


def test_a_context_is_copied_out_once() -> None:
    contexts = Contexts()
    copy, blocks = contexts.pause("p", "abc")
    contexts.copy_out(copy, context(blocks))
    contexts.copy_out(copy, context(blocks))
    assert copy.requested
    contexts.step()
    assert contexts.take_progressed() == [copy]
    assert (copy.copied_blocks, copy.complete) == (3, True)
    contexts.count_copies()
    contexts.count_copies()
    assert contexts.counted() == {counter_key("copied_tokens"): 3 * BLOCK_SIZE}


def test_a_copy_that_failed_is_counted_once() -> None:
    contexts = Contexts()
    copy, blocks = contexts.pause("p", "abc")
    contexts.copy_out(copy, context(blocks))
    contexts.step(succeeded=False)
    contexts.count_copies()
    contexts.count_copies()
    assert contexts.counted() == {counter_key("failed_copies"): 1}


def test_blocks_that_cannot_be_found_by_their_hash_are_not_copied() -> None:
    contexts = Contexts()
    copy, blocks = contexts.pause("p", "ab")
    contexts.copy_out(copy, context([*blocks, *contexts.pool.get_new_blocks(1)]))
    contexts.step()
    contexts.take_progressed()
    assert copy.copied_blocks == 2


def test_memory_and_link_are_told_in_tokens() -> None:
    contexts = Contexts()
    copy, blocks = contexts.pause("p", "abc")
    contexts.copy_out(copy, context(blocks))
    assert contexts.link() == Link(None, 3 * BLOCK_SIZE, 8 * BLOCK_SIZE)
    contexts.transfers.observe_speed(1, BLOCK_SIZE / 4)
    assert contexts.link().seconds_per_token == 0.25
    contexts.step()
    assert contexts.memory() == Memory(8 * BLOCK_SIZE, 5 * BLOCK_SIZE)
    assert contexts.used_tokens() == 3 * BLOCK_SIZE


def test_what_gives_way_is_saved_and_belongs_to_its_context() -> None:
    contexts = Contexts()
    copy, blocks = contexts.pause("p", "abc")
    contexts.save("p", context(blocks), 0, hashes("abc"), nobody)
    assert copy.saved_blocks == 3
    contexts.end(copy, forget=False)
    contexts.step()
    assert contexts.is_empty()
    assert contexts.memory().free_tokens == contexts.memory().total_tokens


def test_a_full_host_memory_gives_up_what_is_chosen_and_only_as_it_must() -> None:
    contexts = Contexts(slots=4)
    copies = {}
    for context_id, letters in (("p", "ab"), ("q", "cd")):
        copies[context_id], blocks = contexts.pause(context_id, letters)
        contexts.copy_out(copies[context_id], context(blocks))
    contexts.step()
    contexts.take_progressed()
    asked: list[int] = []

    def given_up(lacking: int) -> Iterable[str]:
        asked.append(lacking)
        return ["gone", "q"]

    saved = context(computed(contexts.pool, "xy"))
    contexts.save("request", saved, 0, hashes("xy"), given_up)
    assert asked == [2]
    assert copies["p"].copied_blocks == 2
    assert (copies["q"].copied_blocks, copies["q"].requested) == (0, False)
    contexts.step()
    assert contexts.transfers.saves.saved_blocks("request") == 2


def test_a_copy_that_was_dropped_may_be_made_again() -> None:
    contexts = Contexts()
    copy, blocks = contexts.pause("p", "ab")
    contexts.copy_out(copy, context(blocks))
    contexts.step()
    contexts.take_progressed()
    contexts.drop(copy)
    assert (copy.copied_blocks, copy.complete, copy.requested) == (0, False, False)
    assert contexts.memory().free_tokens == contexts.memory().total_tokens
    contexts.copy_out(copy, context(blocks))
    assert copy.requested


def paused_in_host_memory(contexts: Contexts, context_id: str, letters: str) -> HostCopy:
    """A context whose device blocks were overwritten."""
    copy, blocks = contexts.pause(context_id, letters)
    contexts.copy_out(copy, context(blocks))
    contexts.step()
    contexts.take_progressed()
    contexts.pool.free_blocks(reversed(blocks))
    contexts.pool.evict_blocks({block.block_id for block in blocks})
    return copy


def test_what_was_prefetched_is_held_by_whoever_references_it() -> None:
    contexts = Contexts()
    copy = paused_in_host_memory(contexts, "p", "abc")
    contexts.prefetch(copy, 0)
    contexts.step()
    for prefetched in contexts.take_prefetched():
        assert (prefetched.context_id, prefetched.first) == ("p", 0)
        contexts.pool.touch(prefetched.blocks)
        held = prefetched.blocks
    assert found(contexts.pool, "abc") == "abc"
    assert [block.ref_cnt for block in held] == [1, 1, 1]
    contexts.found(copy, 3 * BLOCK_SIZE)
    counted = contexts.counted()
    assert (
        counted[counter_key("prefetches", "used")],
        counted[counter_key("prefetched_tokens")],
    ) == (1, 3 * BLOCK_SIZE)


def test_a_prefetch_of_which_the_session_finds_nothing_is_wasted() -> None:
    contexts = Contexts()
    copy = paused_in_host_memory(contexts, "p", "abc")
    contexts.prefetch(copy, 1)
    contexts.step()
    assert [one.first for one in contexts.take_prefetched()] == [1]
    contexts.found(copy, BLOCK_SIZE)
    assert contexts.counted()[counter_key("prefetches", "wasted")] == 1


def test_a_prefetch_whose_blocks_are_given_back_is_wasted_once() -> None:
    contexts = Contexts()
    copy = paused_in_host_memory(contexts, "p", "abc")
    contexts.prefetch(copy, 1)
    contexts.step()
    assert len(list(contexts.take_prefetched())) == 1
    contexts.shorten(copy, context(computed(contexts.pool, "ab")))
    assert copy.prefetched == [1], "its first block is still there"
    contexts.shorten(copy, context(computed(contexts.pool, "a")))
    contexts.found(copy, 3 * BLOCK_SIZE)
    assert contexts.counted()[counter_key("prefetches", "wasted")] == 1


def test_a_prefetch_that_failed_is_wasted_and_remembered() -> None:
    contexts = Contexts()
    copy = paused_in_host_memory(contexts, "p", "abc")
    contexts.prefetch(copy, 0)
    contexts.step(succeeded=False)
    assert list(contexts.take_prefetched()) == []
    assert copy.load_failed
    assert contexts.counted()[counter_key("prefetches", "wasted")] == 1
    assert contexts.pool.get_num_free_blocks() == 16


def test_a_returning_session_is_not_copied_out_any_further() -> None:
    contexts = Contexts()
    copy, blocks = contexts.pause("p", "abc")
    contexts.copy_out(copy, context(blocks))
    contexts.claim(copy, "r")
    assert contexts.transfers.next_batch() is None


def test_what_a_session_left_that_will_not_come_back_is_replaced_first() -> None:
    contexts = Contexts(slots=4)
    for context_id, letters, forget in (("p", "ab", False), ("q", "cd", True)):
        copy, blocks = contexts.pause(context_id, letters)
        contexts.copy_out(copy, context(blocks))
        contexts.step()
        contexts.end(copy, forget=forget)
    contexts.save("request", context(computed(contexts.pool, "xy")), 0, hashes("xy"), nobody)
    contexts.step()
    host = contexts.transfers.host
    assert [host.is_filled(one) for one in hashes("abcd")] == [True, True, False, False]
