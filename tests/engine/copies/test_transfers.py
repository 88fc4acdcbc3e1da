"""The copies of an iteration: in which order, how many, and when a batch is over."""

import pytest

from caesura.engine.copies.batch import CopyBatch, CopyListener
from caesura.engine.copies.host_pool import HostPool
from caesura.engine.copies.transfers import USE_MEMORY_BLOCKS, USE_WINDOW_BLOCKS, Transfers
from support.engines.blocks import computed, hashes, new_pool


class Listening(CopyListener):
    def __init__(self) -> None:
        self.launched: list[int] = []
        self.finished: list[tuple[int, bool]] = []

    def copies_launched(self, batch: CopyBatch) -> None:
        self.launched.append(batch.id)

    def copies_finished(self, batch_id: int, succeeded: bool) -> None:
        self.finished.append((batch_id, succeeded))


class Planner(Transfers):
    """Transfers with readable copies of `abcdefgh`, and something of each kind to do."""

    def __init__(self, budget_blocks: int, num_workers: int = 1) -> None:
        self.pool = new_pool(32)
        super().__init__(self.pool, HostPool(32), budget_blocks, num_workers)
        self.saves.save("old", computed(self.pool, "abcdefgh"), hashes("abcdefgh"))
        batch = self.next_batch()
        assert batch is not None
        self.finish_batches({batch.id: num_workers}, {})
        self.saves.release("old")
        self.pool.reset_prefix_cache()
        self.pool.evict_blocks(set(range(33)))

    def ask_for_everything(self) -> None:
        self.prefetches.start("prefetched", hashes("gh"), 0)
        self.copies_out.start("copied", computed(self.pool, "xyz"), hashes("xyz"), 3)
        self.loads.start("loading", hashes("cd"), [1, 2])
        self.urgent_loads.start(hashes("ef"), [3, 4])
        self.saves.save("saved", computed(self.pool, "uv"), hashes("uv"))


def planned(planner: Transfers) -> CopyBatch:
    batch = planner.next_batch()
    assert batch is not None
    return batch


def copied(planner: Transfers, letters: str) -> str:
    """The letters that have a readable copy."""
    return "".join(one for one in letters if planner.host.is_filled(hashes(one)[0]))


def test_what_an_iteration_waits_for_comes_first_and_prefetches_last() -> None:
    planner = Planner(budget_blocks=7)
    planner.ask_for_everything()
    batch = planned(planner)
    assert (len(batch.urgent_stores), len(batch.urgent_loads)) == (2, 2)
    assert [block for _, block in batch.loads] == [1, 2], "a request waits for these"
    assert len(batch.stores) == 1
    assert batch.num_blocks == 7
    batch = planned(planner)
    assert (len(batch.stores), len(batch.loads)) == (2, 2)
    assert batch.urgent_stores == batch.urgent_loads == []
    assert planner.next_batch() is None


def test_urgent_copies_are_made_beyond_the_budget_and_leave_nothing_of_it() -> None:
    planner = Planner(budget_blocks=3)
    planner.ask_for_everything()
    batch = planned(planner)
    assert (batch.num_blocks, len(batch.loads), len(batch.stores)) == (4, 0, 0)


def test_the_share_of_copies_that_are_used_is_measured() -> None:
    """Eight blocks are copied and none is loaded, then four are."""
    planner = Planner(budget_blocks=64)
    before = planner.share_used()
    assert before == USE_MEMORY_BLOCKS / (USE_MEMORY_BLOCKS + 8)
    planner.loads.start("loading", hashes("cd"), [1, 2])
    planner.urgent_loads.start(hashes("ef"), [3, 4])
    planned(planner)
    assert planner.share_used() == (USE_MEMORY_BLOCKS + 4) / (USE_MEMORY_BLOCKS + 8)


def test_what_was_measured_long_ago_counts_less() -> None:
    """Copies that nobody came back to, and then copies of which each is used."""
    planner = Planner(budget_blocks=64)
    planner.writes.copied_blocks = USE_WINDOW_BLOCKS
    assert planner.next_batch() is None
    worst = planner.share_used()
    assert worst == pytest.approx(USE_MEMORY_BLOCKS / USE_WINDOW_BLOCKS, rel=0.02)
    for _ in range(8):
        planner.writes.copied_blocks += USE_WINDOW_BLOCKS
        planner._loaded_blocks += USE_WINDOW_BLOCKS
        assert planner.next_batch() is None
    assert planner.share_used() > 0.95


def test_all_that_is_queued_or_under_way_is_pending() -> None:
    planner = Planner(budget_blocks=64)
    assert not planner.pending
    planner.ask_for_everything()
    assert planner.backlog_blocks == 3 + 2 + 2
    batch = planned(planner)
    assert planner.backlog_blocks == 3 + 2 + 2
    planner.loads.end(set(batch.finished_loads))
    planner.finish_batches({batch.id: 1}, {})
    assert planner.pending, "a prefetch that has not been taken"
    (prefetch,) = planner.prefetches.take_finished()
    planner.prefetches.release(prefetch)
    assert not planner.pending
    assert planner.backlog_blocks == 0


def test_a_batch_is_over_when_every_rank_has_reported_it() -> None:
    planner = Planner(budget_blocks=8, num_workers=2)
    planner.listener = listening = Listening()
    planner.copies_out.start("p", computed(planner.pool, "xy"), hashes("xy"), 2)
    batch = planned(planner)
    planner.finish_batches({batch.id: 1}, {})
    assert copied(planner, "xy") == ""
    planner.finish_batches({batch.id: 1}, {})
    assert copied(planner, "xy") == "xy"
    assert (listening.launched, listening.finished) == ([batch.id], [(batch.id, True)])


def test_a_batch_that_one_rank_has_failed_is_no_copy() -> None:
    planner = Planner(budget_blocks=8, num_workers=2)
    planner.listener = listening = Listening()
    planner.copies_out.start("p", computed(planner.pool, "xy"), hashes("xy"), 2)
    batch = planned(planner)
    planner.finish_batches({}, {batch.id: 1})
    planner.finish_batches({batch.id: 1}, {})
    assert copied(planner, "xy") == ""
    assert listening.finished == [(batch.id, False)]
    assert not planner.pending


def test_batches_are_numbered_without_gaps() -> None:
    planner = Planner(budget_blocks=1)
    assert planner.next_batch() is None
    planner.copies_out.start("p", computed(planner.pool, "xy"), hashes("xy"), 2)
    first, second = planned(planner), planned(planner)
    assert second.id == first.id + 1


def test_the_budget_is_what_the_link_moves_during_an_iteration() -> None:
    planner = Planner(budget_blocks=4)
    planner.forward_seconds = lambda tokens: 0.1 + 0.01 * tokens
    planner.fit_budget(90)
    assert planner.budget_blocks == 4, "nothing was measured"
    planner.observe_speed(10, 1.0)
    planner.fit_budget(90)
    assert planner.budget_blocks == 10, "all of the iteration's tokens count, not those that decode"
    planner.fit_budget(10)
    assert planner.budget_blocks == 2, "less than was configured"
    planner.observe_speed(1000, 10_000.0)
    planner.fit_budget(10)
    assert planner.budget_blocks == 1, "copies go on over the slowest link"
    planner.fit_budget(0)
    assert planner.budget_blocks == 4, "nothing is computed that copies could delay"


def test_copies_that_are_part_of_iterations_have_the_configured_budget() -> None:
    planner = Planner(budget_blocks=4)
    planner.observe_speed(10, 1.0)
    planner.fit_budget(90)
    assert planner.budget_blocks == 4


def test_a_batch_is_fitted_to_its_iteration() -> None:
    planner = Planner(budget_blocks=4)
    planner.forward_seconds = lambda tokens: 0.1 * tokens
    planner.observe_speed(10, 1.0)
    planner.copies_out.start("p", computed(planner.pool, "uvwxyz"), hashes("uvwxyz"), 6)
    batch = planner.next_batch(query_tokens=2)
    assert batch is not None
    assert len(batch.stores) == 2


def test_the_speed_is_averaged_over_blocks() -> None:
    planner = Planner(budget_blocks=4)
    planner.observe_speed(0, 1.0)
    assert planner.seconds_per_block is None
    planner.observe_speed(16, 16.0)
    assert planner.seconds_per_block == 1.0
    planner.observe_speed(64, 128.0)
    assert planner.seconds_per_block == pytest.approx(1.25)
    planner.observe_speed(1000, 3000.0)
    assert planner.seconds_per_block == pytest.approx(3.0)
