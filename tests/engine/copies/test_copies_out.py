"""Copies to host memory: which blocks, who relies on them, and what a failed copy takes along."""

from dataclasses import dataclass, field

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import KVCacheBlock

from caesura.engine.copies.batch import CopyBatch
from caesura.engine.copies.copies_out import CopiedContext, CopiesOut, Saves
from caesura.engine.copies.host_pool import HostPool
from caesura.engine.copies.host_writes import HostWrites
from support.engines.blocks import computed, hashes, new_pool


@dataclass
class Copying:
    """Copies out and saves over one host pool."""

    slots: int = 16
    pool: BlockPool = field(default_factory=lambda: new_pool(32))
    batches: int = 0

    def __post_init__(self) -> None:
        self.host = HostPool(self.slots)
        self.writes = HostWrites(self.host)
        self.copies_out = CopiesOut(self.pool, self.writes)
        self.saves = Saves(self.writes)

    def start(self, context_id: str, letters: str) -> list[KVCacheBlock]:
        """Copy a context out."""
        blocks = computed(self.pool, letters)
        self.copies_out.start(context_id, blocks, hashes(letters), len(blocks))
        return blocks

    def save(self, owner: str, letters: str) -> list[KVCacheBlock]:
        """Copy blocks that give way."""
        blocks = computed(self.pool, letters)
        self.saves.save(owner, blocks, hashes(letters))
        return blocks

    def launch(self, budget: int = 8) -> CopyBatch:
        """The next batch."""
        batch = CopyBatch(self.batches)
        self.batches += 1
        self.saves.launch(batch, budget)
        self.copies_out.launch(batch, budget)
        return batch

    def finish(self, batch: CopyBatch, *, succeeded: bool = True) -> None:
        """Its workers report."""
        self.saves.finish(batch.id, succeeded)
        self.copies_out.finish(batch.id, succeeded)

    def copy(self, budget: int = 8, *, succeeded: bool = True) -> CopyBatch:
        """The next batch, to its end."""
        batch = self.launch(budget)
        self.finish(batch, succeeded=succeeded)
        return batch

    def copied(self, letters: str) -> str:
        """The letters that have a readable copy."""
        return "".join(one for one in letters if self.host.is_filled(hashes(one)[0]))


def device_blocks(batch: CopyBatch) -> list[int]:
    return [block for block, _ in batch.stores]


def ids(blocks: list[KVCacheBlock]) -> list[int]:
    return [block.block_id for block in blocks]


def test_a_context_is_copied_front_first_within_the_budget() -> None:
    copying = Copying()
    blocks = copying.start("p", "abcde")
    assert device_blocks(copying.copy(budget=2)) == ids(blocks)[:2]
    assert copying.copies_out.progress("p") == CopiedContext(2, complete=False)
    assert copying.copies_out.backlog_blocks == 3
    assert device_blocks(copying.copy(budget=2)) == ids(blocks)[2:4]
    assert device_blocks(copying.copy(budget=2)) == ids(blocks)[4:]
    assert copying.copies_out.progress("p") == CopiedContext(5, complete=True)
    assert not copying.copies_out.pending
    assert copying.writes.copied_blocks == 5


def test_contexts_are_copied_in_the_order_in_which_that_was_asked_for() -> None:
    copying = Copying()
    first, second = copying.start("p", "abc"), copying.start("q", "xy")
    assert device_blocks(copying.launch(budget=4)) == [*ids(first), ids(second)[0]]


def test_no_slot_is_used_for_two_blocks_at_a_time() -> None:
    copying = Copying()
    copying.start("p", "abc")
    copying.save("q", "xy")
    batch = copying.launch()
    slots = [slot for _, slot in batch.stores + batch.urgent_stores]
    assert len(set(slots)) == 5


def test_a_copy_is_complete_when_it_has_landed_not_when_it_is_issued() -> None:
    copying = Copying()
    copying.start("p", "ab")
    batch = copying.launch()
    assert copying.copies_out.progress("p") == CopiedContext(0, complete=False)
    assert copying.copies_out.pending
    copying.finish(batch)
    assert copying.copies_out.progress("p") == CopiedContext(2, complete=True)
    assert copying.writes.take_progressed() == ["p"]
    assert copying.writes.take_progressed() == []


def test_blocks_that_are_being_read_stay_referenced() -> None:
    copying = Copying()
    blocks = copying.start("p", "ab")
    batch = copying.launch()
    copying.pool.free_blocks(reversed(blocks))  # the hold is broken
    assert [block.ref_cnt for block in blocks] == [1, 1]
    copying.finish(batch)
    assert [block.ref_cnt for block in blocks] == [0, 0]


def test_blocks_with_a_copy_are_not_copied_again() -> None:
    copying = Copying()
    copying.start("p", "ab")
    copying.copy()
    blocks = copying.start("q", "abc")
    assert device_blocks(copying.copy()) == ids(blocks)[2:]
    assert copying.copies_out.progress("q") == CopiedContext(3, complete=True)


def test_a_context_whose_blocks_another_copies_waits_for_them() -> None:
    copying = Copying()
    copying.start("p", "ab")
    batch = copying.launch()
    copying.start("q", "ab")
    assert copying.launch().num_blocks == 0
    assert copying.copies_out.progress("q") == CopiedContext(0, complete=False)
    copying.writes.take_progressed()
    copying.finish(batch)
    assert copying.writes.take_progressed() == ["p", "q"]
    assert copying.copies_out.progress("q") == CopiedContext(2, complete=True)


def test_copies_stay_until_the_last_context_that_relies_on_them_ends() -> None:
    copying = Copying(slots=2)
    copying.start("p", "ab")
    copying.start("q", "ab")
    copying.copy()
    copying.copies_out.end("p", forget=True)
    assert copying.host.available_slots == 0
    copying.copies_out.end("q", forget=True)
    assert copying.host.available_slots == 2
    assert copying.copied("ab") == "ab"
    assert copying.copies_out.is_empty()


def test_what_is_given_back_is_not_copied_any_more() -> None:
    copying = Copying()
    blocks = copying.start("p", "abcde")
    copying.copy(budget=1)
    copying.copies_out.keep_only("p", 3)
    assert device_blocks(copying.copy()) == ids(blocks)[1:3]
    assert copying.copies_out.progress("p") == CopiedContext(3, complete=True)


def test_a_context_of_which_only_the_copied_front_is_left_has_got_further() -> None:
    copying = Copying()
    copying.start("p", "abcde")
    copying.copy(budget=2)
    copying.writes.take_progressed()
    copying.copies_out.keep_only("p", 2)
    assert copying.writes.take_progressed() == ["p"]
    assert copying.copies_out.progress("p") == CopiedContext(2, complete=True)
    assert not copying.copies_out.pending


def test_what_was_issued_is_copied_though_it_is_given_back() -> None:
    copying = Copying()
    copying.start("p", "abcde")
    batch = copying.launch(budget=3)
    copying.copies_out.keep_only("p", 0)
    assert copying.launch().num_blocks == 0
    copying.finish(batch)
    assert copying.copies_out.progress("p") == CopiedContext(3, complete=True)


def test_a_full_host_memory_keeps_the_front() -> None:
    copying = Copying(slots=2)
    copying.start("p", "abcde")
    assert copying.copy().num_blocks == 2
    assert copying.copies_out.progress("p") == CopiedContext(2, complete=True)
    assert not copying.copies_out.pending


def test_behind_a_failed_copy_nothing_is_relied_on() -> None:
    copying = Copying()
    copying.start("p", "abcd")
    first = copying.launch(budget=1)
    second, third = copying.launch(budget=1), copying.launch(budget=1)
    copying.finish(first)
    copying.finish(third)
    copying.finish(second, succeeded=False)
    assert copying.copies_out.progress("p") == CopiedContext(1, complete=True)
    assert copying.copied("abc") == "ac"
    assert copying.host.pinned_slots == 1
    assert copying.launch().num_blocks == 0, "the rest of the context is of no use"


def test_a_failed_copy_cuts_every_context_that_relies_on_it() -> None:
    copying = Copying()
    copying.start("p", "ab")
    batch = copying.launch()
    copying.start("q", "abx")
    copying.copy()
    copying.saves.save("r", computed(copying.pool, "b"), hashes("b"))
    copying.finish(batch, succeeded=False)
    assert copying.copies_out.progress("p") == CopiedContext(0, complete=True)
    assert copying.copies_out.progress("q") == CopiedContext(0, complete=True)
    assert copying.saves.saved_blocks("r") == 0
    assert copying.host.pinned_slots == 0


def test_what_is_copied_for_a_session_that_is_gone_is_replaced_first() -> None:
    copying = Copying(slots=3)
    copying.start("p", "a")
    batch = copying.launch()
    copying.writes.take_progressed()
    copying.copies_out.end("p", forget=True)
    copying.start("q", "bc")
    copying.copy()
    copying.copies_out.end("q", forget=False)
    copying.finish(batch)
    assert copying.writes.take_progressed() == ["q"]
    copying.start("r", "x")
    copying.copy()
    assert copying.copied("abc") == "bc"


def test_a_context_that_ended_before_its_turn_is_not_copied() -> None:
    copying = Copying()
    copying.start("p", "ab")
    copying.copies_out.end("p", forget=False)
    assert copying.launch().num_blocks == 0
    assert copying.copies_out.progress("p") is None


def test_saves_do_not_wait_for_the_budget() -> None:
    copying = Copying()
    blocks = copying.save("p", "abc")
    batch = copying.launch(budget=1)
    assert [block for block, _ in batch.urgent_stores] == ids(blocks)
    assert copying.saves.saved_blocks("p") == 3
    assert copying.copied("abc") == ""
    copying.finish(batch)
    assert copying.copied("abc") == "abc"
    assert copying.host.available_slots == 13
    copying.saves.release("p")
    assert copying.host.available_slots == 16
    assert copying.saves.is_empty()


def test_a_save_keeps_the_front_where_others_rely_on_the_rest() -> None:
    copying = Copying(slots=3)
    copying.start("p", "xy")
    copying.copy()
    copying.save("q", "abc")
    assert copying.saves.saved_blocks("q") == 1
    copying.copy()
    assert copying.copied("xyabc") == "xya"


def test_what_gives_way_piece_by_piece_is_saved_piece_by_piece() -> None:
    copying = Copying()
    copying.save("p", "cd")
    copying.save("p", "ab")
    assert copying.saves.saved_blocks("p") == 4
    batch = copying.copy()
    assert len(batch.urgent_stores) == 4
    assert copying.copied("abcd") == "abcd"
    copying.saves.release("p")
    assert copying.host.pinned_slots == 0


def test_a_save_that_fails_keeps_nothing() -> None:
    copying = Copying()
    copying.save("p", "abc")
    copying.copy(succeeded=False)
    assert copying.saves.saved_blocks("p") == 0
    assert copying.host.used_slots == 0
