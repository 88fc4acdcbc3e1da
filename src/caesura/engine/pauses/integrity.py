"""A check of all books at idle: no block, host slot or map entry is left behind."""

from collections import Counter
from collections.abc import Mapping

from vllm.v1.core.sched.scheduler import Scheduler

from caesura.engine.pauses.keeper import PauseKeeper


def check_idle(scheduler: Scheduler, keeper: PauseKeeper, books: Mapping[str, bool]) -> None:
    """Verify the books of a scheduler that has no request left.

    Args:
        scheduler: vLLM's; its blocks are counted.
        keeper: its pauses.
        books: whether a book is empty, by what it has entries for.

    Raises:
        AssertionError: something leaked; the message says what.
    """
    assert not scheduler.requests, "requests are left"
    left = [name for name, is_empty in books.items() if not is_empty]
    assert not left, f"of ended sessions these are left: {', '.join(left)}"
    assert keeper.returns.is_empty(), "reports of ended requests are left"
    keeper.check_integrity()
    if keeper.contexts.pending or scheduler.deferred_frees:
        return
    group = scheduler.kv_cache_manager.coordinator.single_type_managers[0]
    owned = {name: blocks for name, blocks in group.req_to_blocks.items() if blocks}
    assert not owned, f"blocks are owned by requests that are gone: {list(owned)}"
    held: Counter[int] = Counter()
    for pause in keeper.table:
        if pause.hold is not None:
            held.update(block.block_id for block in pause.hold.blocks())
    for block in scheduler.kv_cache_manager.block_pool.blocks:
        if not block.is_null:
            expected = held[block.block_id]
            assert block.ref_cnt == expected, (
                f"block {block.block_id} has {block.ref_cnt} references, holds account for "
                f"{expected}"
            )
