"""Loads ahead of a session: what they take, and to whom it belongs until they are over."""

from vllm.v1.core.block_pool import BlockPool

from caesura.engine.copies.batch import CopyBatch
from caesura.engine.copies.host_pool import HostPool
from caesura.engine.copies.prefetches import Prefetches
from support.engines.blocks import computed, found, hashes, new_pool


class Loading:
    """Prefetches from a host memory with copies of `abcdef`."""

    def __init__(self, blocks: int = 8) -> None:
        self.pool: BlockPool = new_pool(blocks)
        self.host = HostPool(6)
        for block_hash in hashes("abcdef"):
            self.host.reserve(block_hash)
            self.host.fill(block_hash)
            self.host.unpin([block_hash])
        self.prefetches = Prefetches(self.pool, self.host)
        self._batches = 0

    def launch(self, budget: int = 8) -> CopyBatch:
        batch = CopyBatch(self._batches)
        self._batches += 1
        self.prefetches.launch(batch, budget)
        return batch

    @property
    def free_blocks(self) -> int:
        return self.pool.get_num_free_blocks()


def test_what_the_device_has_is_found_and_the_rest_is_loaded() -> None:
    loading = Loading()
    loading.pool.free_blocks(reversed(computed(loading.pool, "ab")))
    assert loading.prefetches.start("p", hashes("abcd"), 0)
    assert len(loading.launch().loads) == 2
    loading.prefetches.finish(0, succeeded=True)
    (prefetch,) = loading.prefetches.take_finished()
    assert (prefetch.first, prefetch.found_blocks, len(prefetch.blocks)) == (0, 2, 4)


def test_nothing_is_found_before_all_of_it_is_loaded() -> None:
    loading = Loading()
    loading.prefetches.start("p", hashes("abcd"), 0)
    loading.launch(budget=3)
    loading.launch(budget=3)
    loading.prefetches.finish(0, succeeded=True)
    assert loading.prefetches.take_finished() == []
    assert found(loading.pool, "abcd") == ""
    loading.prefetches.finish(1, succeeded=True)
    (prefetch,) = loading.prefetches.take_finished()
    loading.prefetches.enter(prefetch)
    assert found(loading.pool, "abcd") == "abcd"


def test_a_prefetch_takes_free_blocks_only() -> None:
    loading = Loading(blocks=4)
    held = computed(loading.pool, "x")
    assert not loading.prefetches.start("p", hashes("abcd"), 0)
    loading.pool.free_blocks(held)
    assert loading.prefetches.start("p", hashes("abcd"), 0)
    assert loading.free_blocks == 0


def test_blocks_that_are_found_idle_are_taken_from_the_free_ones_too() -> None:
    loading = Loading(blocks=4)
    loading.pool.free_blocks(reversed(computed(loading.pool, "ab")))
    held = computed(loading.pool, "x")
    assert not loading.prefetches.start("p", hashes("abcd"), 0)
    loading.pool.free_blocks(held)
    assert loading.prefetches.start("p", hashes("abcd"), 0)


def test_one_prefetch_of_a_context_at_a_time() -> None:
    loading = Loading()
    assert loading.prefetches.start("p", hashes("abc"), 1)
    assert not loading.prefetches.start("p", hashes("abc"), 1)
    assert len(loading.launch().loads) == 2


def test_blocks_that_are_being_written_are_given_back_when_the_copies_are_over() -> None:
    loading = Loading()
    loading.prefetches.start("p", hashes("abcd"), 0)
    loading.launch(budget=2)
    assert loading.prefetches.stop("p")
    assert loading.free_blocks == 6, "two are being written"
    assert loading.host.pinned_slots == 2
    loading.prefetches.finish(0, succeeded=True)
    assert loading.free_blocks == 8
    assert loading.host.pinned_slots == 0
    assert loading.prefetches.take_finished() == []
    assert loading.prefetches.is_empty()
    assert not loading.prefetches.stop("p")


def test_a_returning_session_waits_for_loads_under_way_and_no_others() -> None:
    loading = Loading()
    loading.prefetches.start("p", hashes("abcd"), 0)
    loading.launch(budget=2)
    loading.prefetches.cut_short("p", awaited_by="r")
    assert loading.prefetches.awaited_by("r")
    assert loading.free_blocks == 6
    assert loading.launch().num_blocks == 0
    loading.prefetches.finish(0, succeeded=True)
    (prefetch,) = loading.prefetches.take_finished()
    assert len(prefetch.blocks) == 2
    assert not loading.prefetches.awaited_by("r")


def test_prefetches_give_up_what_is_not_under_way_when_memory_is_short() -> None:
    loading = Loading()
    loading.prefetches.start("p", hashes("abc"), 0)
    loading.prefetches.start("q", hashes("def"), 0)
    loading.launch(budget=2)
    loading.prefetches.cut_all_short()
    assert loading.free_blocks == 6
    assert [one.context_id for one in loading.prefetches.take_finished()] == ["q"]


def test_after_a_failed_batch_the_rest_is_not_loaded() -> None:
    loading = Loading()
    loading.prefetches.start("p", hashes("abcd"), 0)
    loading.launch(budget=2)
    loading.prefetches.finish(0, succeeded=False)
    assert loading.launch().num_blocks == 0
    (prefetch,) = loading.prefetches.take_finished()
    assert prefetch.failed
    loading.prefetches.release(prefetch)
    assert loading.free_blocks == 8
