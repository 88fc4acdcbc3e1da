"""Host copies of paused contexts, on an engine with host memory."""

from collections.abc import Iterator, Sequence

from vllm.v1.core.kv_cache_utils import BlockHash, KVCacheBlock

from caesura.engine.copies.blocks import full_blocks
from caesura.engine.copies.contexts import CopiesGivenUp, HostContexts, HostCopy, Link, Prefetched
from caesura.engine.copies.listener import CopyListener
from caesura.engine.copies.prefetches import Prefetch, PrefetchEnding
from caesura.engine.copies.transfers import Transfers
from caesura.engine.metrics import PauseMetrics
from caesura.policy import Memory


class CopiedContexts(HostContexts):
    """Host copies of paused contexts.

    Args:
        transfers: plans and counts copies.
        block_size: tokens per block.
        metrics: counts prefetches and copied tokens.
    """

    def __init__(self, transfers: Transfers, block_size: int, metrics: PauseMetrics) -> None:
        self._transfers = transfers
        self._block_size = block_size
        self._metrics = metrics
        self._copies: dict[str, HostCopy] = {}
        self._counted_blocks = 0

    def memory(self) -> Memory:
        """See `HostContexts`."""
        host = self._transfers.host
        return Memory(host.num_slots * self._block_size, host.available_slots * self._block_size)

    def used_tokens(self) -> int:
        """See `HostContexts`."""
        return self._transfers.host.used_slots * self._block_size

    def link(self) -> Link:
        """See `HostContexts`."""
        per_block = self._transfers.seconds_per_block
        return Link(
            None if per_block is None else per_block / self._block_size,
            self._transfers.backlog_blocks * self._block_size,
            self._transfers.budget_blocks * self._block_size,
        )

    def enter(self, context_id: str, block_hashes: list[BlockHash]) -> HostCopy:
        """See `HostContexts`."""
        copy = self._copies[context_id] = super().enter(context_id, block_hashes)
        return copy

    # Out

    def copy_out(self, copy: HostCopy, blocks: Sequence[KVCacheBlock]) -> None:
        """See `HostContexts`."""
        full = full_blocks(blocks)
        if full and self._transfers.copies_out.progress(copy.context_id) is None:
            self._transfers.copies_out.start(copy.context_id, full, copy.block_hashes)
            copy.requested = True
        self._refresh(copy)

    def save(
        self,
        owner: str,
        blocks: list[KVCacheBlock],
        block_hashes: list[BlockHash],
        given_up: CopiesGivenUp,
    ) -> None:
        """See `HostContexts`."""
        lacking = len(blocks) - self._transfers.host.available_slots
        if lacking > 0:
            for context_id in given_up(lacking):
                other = self._copies.get(context_id)
                if other is not None:
                    self.drop(other)
        self._transfers.saves.save(owner, blocks, block_hashes)
        copy = self._copies.get(owner)
        if copy is not None:
            copy.saved_blocks = self._transfers.saves.saved_blocks(owner)

    def shorten(self, copy: HostCopy, keep_blocks: int) -> None:
        """See `HostContexts`."""
        self._transfers.copies_out.keep_only(copy.context_id, keep_blocks)
        while copy.prefetched and copy.prefetched[-1] >= keep_blocks:
            copy.prefetched.pop()
            self._count(PrefetchEnding.WASTED)

    def take_progressed(self) -> list[HostCopy]:
        """See `HostContexts`."""
        progressed = []
        for context_id in self._transfers.writes.take_progressed():
            copy = self._copies.get(context_id)
            if copy is not None:
                self._refresh(copy)
                progressed.append(copy)
        return progressed

    def _refresh(self, copy: HostCopy) -> None:
        progress = self._transfers.copies_out.progress(copy.context_id)
        if progress is not None:
            copy.copied_blocks, copy.complete = progress.copied_blocks, progress.complete

    def drop(self, copy: HostCopy) -> None:
        """See `HostContexts`."""
        self._rely_no_longer(copy, forget=True)
        copy.copied_blocks = copy.saved_blocks = 0
        copy.requested = copy.complete = False

    def _rely_no_longer(self, copy: HostCopy, *, forget: bool) -> None:
        self._transfers.saves.release(copy.context_id)
        self._transfers.copies_out.end(copy.context_id, forget=forget)

    def count_copies(self) -> None:
        """See `HostContexts`."""
        copied = self._transfers.writes.copied_blocks
        self._metrics.count("copied_tokens", (copied - self._counted_blocks) * self._block_size)
        self._counted_blocks = copied

    def fit_budget(self, iteration_seconds: float) -> None:
        """See `HostContexts`."""
        self._transfers.fit_budget(iteration_seconds)

    # In

    def prefetch(self, copy: HostCopy, first: int) -> None:
        """See `HostContexts`."""
        self._transfers.prefetches.start(copy.context_id, copy.block_hashes, first)

    def stop_prefetch(self, copy: HostCopy) -> None:
        """See `HostContexts`."""
        if self._transfers.prefetches.stop(copy.context_id):
            self._count(PrefetchEnding.WASTED)

    def cut_prefetches_short(self) -> None:
        """See `HostContexts`."""
        self._transfers.prefetches.cut_all_short()

    def take_prefetched(self) -> Iterator[Prefetched]:
        """See `HostContexts`."""
        for prefetch in self._transfers.prefetches.take_finished():
            copy = self._copies[prefetch.context_id]
            brought = self._brought(copy, prefetch)
            if brought is None:
                self._count(PrefetchEnding.WASTED)
            else:
                copy.prefetched.append(brought.first)
                self._metrics.count("prefetched_tokens", brought.loaded_tokens)
                yield brought
            self._transfers.prefetches.release(prefetch)

    def _brought(self, copy: HostCopy, prefetch: Prefetch) -> Prefetched | None:
        if prefetch.failed:
            copy.load_failed = True
            return None
        self._transfers.prefetches.enter(prefetch, self._block_size)
        blocks = full_blocks(prefetch.blocks)
        if not blocks:
            return None
        loaded_tokens = len(prefetch.block_hashes) * self._block_size
        return Prefetched(copy.context_id, prefetch.first, blocks, loaded_tokens)

    # Returns

    def claim(self, copy: HostCopy, request_id: str) -> None:
        """See `HostContexts`."""
        self._transfers.copies_out.keep_only(copy.context_id, 0)
        self._transfers.prefetches.cut_short(copy.context_id, awaited_by=request_id)

    def found(self, copy: HostCopy, found_tokens: int) -> None:
        """See `HostContexts`."""
        for first in copy.prefetched:
            used = found_tokens > first * self._block_size
            self._count(PrefetchEnding.USED if used else PrefetchEnding.WASTED)
        copy.prefetched.clear()

    def end(self, copy: HostCopy, *, forget: bool) -> None:
        """See `HostContexts`."""
        self._rely_no_longer(copy, forget=forget)
        del self._copies[copy.context_id]

    # Books

    @property
    def pending(self) -> bool:
        """See `HostContexts`."""
        return self._transfers.pending

    def report_to(self, listener: CopyListener) -> None:
        """See `HostContexts`."""
        self._transfers.listener = listener

    def is_empty(self) -> bool:
        """See `HostContexts`."""
        transfers = self._transfers
        if self._copies or not (transfers.copies_out.is_empty() and transfers.saves.is_empty()):
            return False
        if transfers.pending:
            return True  # copies under way have pins and blocks of their own
        return transfers.prefetches.is_empty() and not transfers.host.pinned_slots

    def _count(self, ending: PrefetchEnding) -> None:
        self._metrics.count("prefetches", labels=(ending,))
