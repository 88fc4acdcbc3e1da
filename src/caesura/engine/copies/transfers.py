"""Copies between device and host, planned per engine iteration within a byte budget.

The scheduler's half: which blocks, in which order, how many per iteration. Loads go before
copies out, since a session waits for them; loads ahead of a session go last.
"""

from collections.abc import Callable
from typing import Any

from vllm.v1.core.block_pool import BlockPool

from caesura.engine.copies.batch import NO_COPY_LISTENER, CopyBatch, CopyKind, CopyListener
from caesura.engine.copies.copies_out import CopiesOut, Saves
from caesura.engine.copies.groups import ONE_GROUP, Groups
from caesura.engine.copies.host_pool import HostPool
from caesura.engine.copies.host_writes import HostWrites
from caesura.engine.copies.loads import Loads, UrgentLoads
from caesura.engine.copies.prefetches import Prefetches

SPEED_MEMORY_BLOCKS = 256
"""Blocks over which the measured speed of copies is averaged."""

USE_MEMORY_BLOCKS = 256
"""Copied blocks that count as used before anything is known."""

USE_WINDOW_BLOCKS = 64 * USE_MEMORY_BLOCKS
"""After so many copied blocks, what was measured before counts half."""


class Transfers:
    """Plans the copies of iterations and keeps count of the batches under way.

    Attributes:
        host: the host pool.
        groups: the KV cache groups.
        writes: host copies that are being written, and who relies on them.
        copies_out, saves: copies to host memory.
        loads, urgent_loads, prefetches: copies from there; the last ahead of sessions.
        seconds_per_block: time to copy a block one way, None before it was measured.
        budget_blocks: blocks copied per iteration at most, out and in together.
        forward_seconds: time of an iteration with so many query tokens, where copies run beside
            it; None where they are part of it.
        failed_batches: batches of which some copies were not made, so far.
        listener: receives the batches that are launched and finished.

    Args:
        pool: the device's block pool.
        host: the host pool.
        budget_blocks: blocks copied per iteration at most, out and in together; where copies run
            beside computation only in iterations that compute nothing, and until the link's
            speed is known.
        num_workers: ranks that must report a batch before it is complete.
        groups: the KV cache groups.
    """

    def __init__(
        self,
        pool: BlockPool,
        host: HostPool,
        budget_blocks: int,
        num_workers: int = 1,
        groups: Groups = ONE_GROUP,
    ) -> None:
        self.host = host
        self.groups = groups
        self.writes = HostWrites(host)
        self.copies_out = CopiesOut(pool, self.writes, groups)
        self.saves = Saves(self.writes)
        self.loads = Loads(host)
        self.urgent_loads = UrgentLoads(host)
        self.prefetches = Prefetches(pool, host, groups)
        self.listener: CopyListener = NO_COPY_LISTENER
        self.seconds_per_block: float | None = None  # one way, measured
        self.failed_batches = 0
        self.forward_seconds: Callable[[int], float] | None = None
        self.budget_blocks = self._configured_blocks = max(1, budget_blocks)
        self._num_workers = num_workers
        self._next_batch_id = 0
        self._batch = CopyBatch(-1)  # of the iteration that was scheduled last
        # In the order in which they get the budget: an iteration waits for the first two.
        self._kinds: tuple[CopyKind[Any], ...] = (
            self.saves,
            self.urgent_loads,
            self.loads,
            self.copies_out,
            self.prefetches,
        )
        self._reports: dict[int, int] = {}  # ranks that have reported, by batch
        self._failed: set[int] = set()
        self._loaded_blocks = 0.0
        self._forgotten_blocks = 0.0

    def fit_budget(self, query_tokens: int) -> None:
        """Copy what the link moves while an iteration of so many query tokens computes, out and in
        together (InferCept, section 4.1: `T_swap(N) = T_fwd(B)`), and one block at least."""
        self.budget_blocks = self._configured_blocks
        if self.forward_seconds is not None and self.seconds_per_block and query_tokens:
            hidden = int(self.forward_seconds(query_tokens) / self.seconds_per_block)
            self.budget_blocks = max(1, hidden)

    def observe_speed(self, blocks: int, seconds: float) -> None:
        """Copies of so many blocks took this long."""
        if blocks <= 0:
            return
        measured = seconds / blocks
        if self.seconds_per_block is None:
            self.seconds_per_block = measured
        weight = min(1.0, blocks / SPEED_MEMORY_BLOCKS)
        self.seconds_per_block += weight * (measured - self.seconds_per_block)

    def share_used(self) -> float:
        """Blocks loaded per block copied out of late: what share of the copies is used. It starts
        at 1, and follows what is measured."""
        unmeasured = USE_MEMORY_BLOCKS
        copied = self.writes.copied_blocks - self._forgotten_blocks
        return min(1.0, (self._loaded_blocks + unmeasured) / (copied + unmeasured))

    def _forget_use(self) -> None:
        copied = self.writes.copied_blocks - self._forgotten_blocks
        if copied > USE_WINDOW_BLOCKS:
            self._forgotten_blocks += copied / 2
            self._loaded_blocks /= 2

    @property
    def backlog_blocks(self) -> int:
        """Blocks whose copies, out or in, are queued or under way, without those that an
        iteration waits for."""
        return self.loading_blocks + self.copies_out.backlog_blocks

    @property
    def loading_blocks(self) -> int:
        """Device blocks that loads, queued or under way, have taken and not filled yet."""
        return self.loads.backlog_blocks + self.prefetches.backlog_blocks

    @property
    def pending(self) -> bool:
        """Whether anything is queued or under way."""
        return any(kind.pending for kind in self._kinds)

    def next_batch(self, query_tokens: int = 0) -> CopyBatch | None:
        """The copies of an iteration that computes so many tokens, None if there are none."""
        self.fit_budget(query_tokens)
        self._forget_use()
        batch = CopyBatch(self._next_batch_id)
        for kind in self._kinds:
            kind.launch(batch, self.budget_blocks)
        self._batch = batch
        if batch.num_blocks == 0:
            return None
        self._next_batch_id += 1
        self._loaded_blocks += len(batch.urgent_loads) + len(batch.loads)
        self.listener.copies_launched(batch)
        return batch

    def stalled_seconds(self, in_step: bool) -> float:
        """How long the iteration that was scheduled last waits for its copies.

        Args:
            in_step: for all of them; else for those that it cannot do without.
        """
        batch = self._batch
        urgent_blocks = len(batch.urgent_stores) + len(batch.urgent_loads)
        blocks = batch.num_blocks if in_step else urgent_blocks
        return blocks * (self.seconds_per_block or 0.0)

    def finish_batches(self, completed: dict[int, int], failed: dict[int, int]) -> None:
        """The workers report finished batches: batch id -> number of ranks that report it."""
        for batch_id, ranks in (*completed.items(), *failed.items()):
            self._reports[batch_id] = self._reports.get(batch_id, 0) + ranks
        self._failed.update(failed)
        for batch_id in sorted(completed.keys() | failed.keys()):
            if self._reports[batch_id] < self._num_workers:
                continue
            del self._reports[batch_id]
            succeeded = batch_id not in self._failed
            self.failed_batches += not succeeded
            self._failed.discard(batch_id)
            self.listener.copies_finished(batch_id, succeeded)
            for kind in self._kinds:
                kind.finish(batch_id, succeeded)
