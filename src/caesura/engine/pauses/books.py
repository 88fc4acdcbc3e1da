"""A check of all books when no request is left: no block, host slot or entry is left behind."""

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from vllm.v1.core.sched.scheduler import Scheduler

from caesura.engine.copies.contexts import HostContexts
from caesura.engine.pauses.table import PauseTable


class Book(Protocol):
    """Whatever keeps something of requests or of pauses."""

    def is_empty(self) -> bool:
        """Whether nothing is left of those that have ended."""


def check_books(
    scheduler: Scheduler, table: PauseTable, contexts: HostContexts, books: Mapping[str, Book]
) -> None:
    """Check the books of a scheduler that has no request left; there may be pauses of clients.

    Args:
        scheduler: vLLM's; its blocks are counted.
        table: the pauses.
        contexts: host copies of them.
        books: whatever else keeps something, by what that is.

    Raises:
        AssertionError: something leaked; the message says what.
    """
    assert not scheduler.requests, "requests are left"
    kept = dict(books)
    if not len(table):
        kept |= {"pauses": table, "host copies": contexts}
    left = [name for name, book in kept.items() if not book.is_empty()]
    assert not left, f"of ended sessions these are left: {', '.join(left)}"
    if not contexts.pending and not scheduler.deferred_frees:
        _check_blocks(scheduler, table)


def _check_blocks(scheduler: Scheduler, table: PauseTable) -> None:
    for group in scheduler.kv_cache_manager.coordinator.single_type_managers:
        owned = {name: blocks for name, blocks in group.req_to_blocks.items() if blocks}
        assert not owned, f"blocks are owned by requests that are gone: {list(owned)}"
    held: Counter[int] = Counter()
    for pause in table:
        if pause.hold is not None:
            held.update(block.block_id for block in pause.hold.blocks())
    for block in scheduler.kv_cache_manager.block_pool.blocks:
        if not block.is_null:
            expected = held[block.block_id]
            assert block.ref_cnt == expected, (
                f"block {block.block_id} has {block.ref_cnt} references, holds account for "
                f"{expected}"
            )
