"""A check of all books at idle: no block, host slot or map entry is left behind."""

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caesura.engine.scheduler import InterceptScheduler


def check_idle(scheduler: "InterceptScheduler") -> None:
    """Verify the scheduler's books when it has no request left.

    Raises:
        AssertionError: something leaked; the message says what.
    """
    assert not scheduler.requests, "requests are left"
    assert not scheduler.parked, f"parked sessions are left: {list(scheduler.parked)}"
    assert scheduler.ranks.is_empty(), "ranks of ended sessions are left"
    assert not scheduler._stopped and not scheduler._released, "unsettled sessions are left"
    assert scheduler.frames.is_empty(), "watches of ended sessions are left"
    assert scheduler.interrupts.is_empty(), "interrupts of ended sessions are left"
    assert scheduler.continuations.is_empty(), "continuations are left"
    assert scheduler.keeper.returns.is_empty(), "reports of ended requests are left"
    scheduler.keeper.check_integrity()
    transfers = scheduler.keeper.transfers
    if transfers is not None and transfers.pending:
        return
    if scheduler.deferred_frees:
        return
    group = scheduler.kv_cache_manager.coordinator.single_type_managers[0]
    owned = {name: blocks for name, blocks in group.req_to_blocks.items() if blocks}
    assert not owned, f"blocks are owned by requests that are gone: {list(owned)}"
    held: Counter[int] = Counter()
    for pause in scheduler.keeper.table:
        if pause.hold is not None:
            held.update(block.block_id for block in pause.hold.blocks())
    for block in scheduler.kv_cache_manager.block_pool.blocks:
        if not block.is_null:
            expected = held[block.block_id]
            assert block.ref_cnt == expected, (
                f"block {block.block_id} has {block.ref_cnt} references, holds account for "
                f"{expected}"
            )
