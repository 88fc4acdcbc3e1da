"""Copies from the device to host memory: those that were asked for, and those that cannot wait."""

from dataclasses import dataclass

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import KVCacheBlock

from caesura.engine.copies.batch import CopyBatch, CopyKind
from caesura.engine.copies.groups import ONE_GROUP, Groups, HostKey
from caesura.engine.copies.host_writes import HostWrites, Run


@dataclass(frozen=True, slots=True)
class CopiedContext:
    """How many leading blocks of a context its host copy restores, and whether that is all that
    it will."""

    copied_blocks: int
    complete: bool


@dataclass(frozen=True, slots=True)
class _Job:
    """A context's blocks; those that have not been copied yet follow the kept ones of the run.

    Attributes:
        run: what host memory keeps of them.
        blocks: blocks of all KV cache groups.
        end: the boundary that they restore together.
    """

    run: Run
    blocks: list[KVCacheBlock]
    end: int


@dataclass(frozen=True, slots=True)
class _Store:
    """A copy of one block under way, with a reference on the block."""

    run: Run
    block: KVCacheBlock
    key: HostKey


class CopiesOut(CopyKind[_Store]):
    """Copies of paused contexts, within the budget, first come first served.

    They hold references of their own on the device blocks until they are complete, so a hold may
    be released at any moment.

    Args:
        pool: the device's block pool.
        writes: the host copies that contexts rely on.
        groups: the KV cache groups.
    """

    def __init__(self, pool: BlockPool, writes: HostWrites, groups: Groups = ONE_GROUP) -> None:
        super().__init__()
        self._pool = pool
        self._writes = writes
        self._groups = groups
        self._jobs: dict[str, _Job] = {}  # by context
        self._queue: dict[str, _Job] = {}

    def start(
        self, context_id: str, blocks: list[KVCacheBlock], keys: list[HostKey], end: int
    ) -> None:
        """Queue the blocks that a context needs at boundary `end`, front first. Blocks with a
        copy are skipped."""
        assert context_id not in self._jobs
        job = _Job(Run(context_id, keys), blocks, end)
        self._writes.open(job.run)
        self._jobs[context_id] = self._queue[context_id] = job

    def is_queued(self, context_id: str) -> bool:
        """Whether not all of a context's copies were issued."""
        return context_id in self._queue

    def keep_only(self, context_id: str, keep_blocks: int) -> None:
        """Copy no block of a context past the first `keep_blocks` that was not issued yet.

        Must be called before such blocks are given back: they may be overwritten then. Copies
        that were issued stay.
        """
        job = self._jobs.get(context_id)
        if job is not None:
            job.run.cut(max(job.run.kept, keep_blocks))
            if job.run.whole:
                self._queue.pop(context_id, None)
                self._writes.note_progress([job.run])  # maybe all that is left is copied

    def end(self, context_id: str, *, forget: bool) -> None:
        """Copy no more of a context, and rely on its copies no longer.

        Args:
            context_id: which context.
            forget: its session will not come back.
        """
        self._queue.pop(context_id, None)
        job = self._jobs.pop(context_id, None)
        if job is not None:
            self._writes.close(job.run, forget=forget)

    def progress(self, context_id: str) -> CopiedContext | None:
        """How much of a context has a host copy, None if none was asked for."""
        job = self._jobs.get(context_id)
        if job is None:
            return None
        copied = self._writes.readable_blocks(job.run)
        complete = job.run.whole and copied == job.run.kept
        if not self._groups.prefixes:
            copied = job.end if copied == len(job.blocks) else 0
        return CopiedContext(copied, complete)

    @property
    def backlog_blocks(self) -> int:
        """Blocks whose copies are queued or under way."""
        queued = sum(len(job.run.keys) - job.run.kept for job in self._queue.values())
        return queued + sum(map(len, self._under_way.values()))

    def is_empty(self) -> bool:
        """Whether nothing is copied or kept for any context (integrity check)."""
        return not self._jobs

    def _take(self, batch: CopyBatch, budget_blocks: int) -> list[_Store]:
        stores: list[_Store] = []
        while self._queue and batch.num_blocks < budget_blocks:
            context_id, job = next(iter(self._queue.items()))
            while not job.run.whole and batch.num_blocks < budget_blocks:
                position = job.run.kept
                slot = self._writes.keep_next(job.run)
                if slot is not None:
                    block = job.blocks[position]
                    self._pool.touch([block])
                    batch.stores.append((block.block_id, slot))
                    stores.append(_Store(job.run, block, job.run.keys[position]))
            if job.run.whole:
                del self._queue[context_id]
                self._writes.note_progress([job.run])
        return stores

    def _finish(self, item: _Store, succeeded: bool) -> None:
        self._pool.free_blocks([item.block])
        self._writes.note_progress([item.run])
        self._writes.finish(item.key, succeeded, forget=item.run.closed)

    def _has_queued(self) -> bool:
        return bool(self._queue)


class Saves(CopyKind[HostKey]):
    """Copies of blocks that are given away now, before the coming iteration overwrites them.

    Whatever the budget: the alternative is to compute them again. Where host memory is full of
    copies that others rely on, only the front is kept.

    Args:
        writes: the host copies that contexts rely on.
    """

    def __init__(self, writes: HostWrites) -> None:
        super().__init__()
        self._writes = writes
        self._runs: dict[str, Run] = {}  # by context or request
        self._queue: list[tuple[HostKey, int, int]] = []  # key, device block, host slot

    def save(
        self, owner: str, blocks: list[KVCacheBlock], keys: list[HostKey], *, partly: bool = True
    ) -> bool:
        """Copy blocks, and rely on the copies until `release`.

        Args:
            owner: the context or request.
            blocks: its blocks; those that follow what was saved before, if anything was.
            keys: their keys.
            partly: a front is of use, too; else nothing is copied unless there is room for all.

        Returns:
            Whether all of them are kept for the owner.
        """
        if not partly and not self._writes.host.has_room(keys):
            return False
        run = self._runs.get(owner)
        if run is None:
            run = self._runs[owner] = Run(owner, [])
            self._writes.open(run)
        first = run.kept
        run.keys += keys
        while not run.whole:
            block = blocks[run.kept - first]
            key = run.keys[run.kept]
            slot = self._writes.keep_next(run)
            if slot is not None:
                self._queue.append((key, block.block_id, slot))
        return run.kept == first + len(keys)

    def saved_blocks(self, owner: str) -> int:
        """How many blocks of a context are kept."""
        run = self._runs.get(owner)
        return run.kept if run is not None else 0

    def release(self, owner: str) -> None:
        """The context is on the device again, or is not wanted any more."""
        run = self._runs.pop(owner, None)
        if run is not None:
            self._writes.close(run)

    def is_empty(self) -> bool:
        """Whether nothing is kept for anybody (integrity check)."""
        return not self._runs

    def _take(self, batch: CopyBatch, budget_blocks: int) -> list[HostKey]:
        queue, self._queue = self._queue, []
        batch.urgent_stores = [(block, slot) for _, block, slot in queue]
        return [key for key, _, _ in queue]

    def _finish(self, item: HostKey, succeeded: bool) -> None:
        self._writes.finish(item, succeeded)

    def _has_queued(self) -> bool:
        return bool(self._queue)
