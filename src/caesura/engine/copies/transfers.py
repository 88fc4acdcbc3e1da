"""Copies between device and host, planned per engine iteration within a byte budget.

The scheduler's half: which blocks, in which order, how many per iteration. Loads go before
copies out, since a session waits for them; loads ahead of a session go last. Copies out hold
their own references on the device blocks until they are complete, so a hold may be released at
any moment.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import BlockHash, KVCacheBlock

from caesura.engine.copies.batch import CopyBatch
from caesura.engine.copies.host_pool import HostPool
from caesura.engine.copies.listener import NO_COPY_LISTENER, CopyListener
from caesura.engine.copies.prefetches import Prefetches

SPEED_MEMORY_BLOCKS = 256
"""Blocks over which the measured speed of copies is averaged."""


@dataclass(slots=True, eq=False)
class _CopyOut:
    """A pause's blocks that are to be copied out, from `next_block` on."""

    pause_id: str
    blocks: list[KVCacheBlock]
    block_hashes: list[BlockHash]
    next_block: int = 0
    pinned: list[BlockHash] = field(default_factory=list)
    in_flight: int = 0
    abandoned: bool = False

    @property
    def all_issued(self) -> bool:
        return self.next_block >= len(self.blocks)

    def truncate(self, end: int) -> None:
        """Copy nothing from block `end` on."""
        del self.blocks[end:]
        del self.block_hashes[end:]


@dataclass(slots=True)
class _Load:
    request_id: str
    pairs: deque[tuple[int, int]]
    block_hashes: list[BlockHash]
    failed: bool = False


@dataclass(slots=True)
class _IssuedStore:
    job: _CopyOut
    block: KVCacheBlock
    block_hash: BlockHash


@dataclass(slots=True)
class CopiedContext:
    """Progress of one pause's copy out.

    Attributes:
        pause_id: which pause.
        copied_blocks: leading blocks of the context with a readable host copy.
        complete: nothing more will be copied for it.
    """

    pause_id: str
    copied_blocks: int
    complete: bool


class Transfers:
    """Plans copies and keeps the books of those under way.

    Attributes:
        copied_blocks_total, loaded_blocks_total: blocks copied out and in so far.
        seconds_per_block: time to copy a block one way, None before it was measured.
        budget_blocks: blocks copied per iteration at most, out and in together.
        prefetches: loads ahead of the sessions that will want them.
        listener: receives the batches that are launched and finished.

    Args:
        pool: the device's block pool.
        host: the host pool.
        budget_blocks: blocks copied per iteration at most, out and in together.
        num_workers: ranks that must report a batch before it is complete.
    """

    def __init__(
        self, pool: BlockPool, host: HostPool, budget_blocks: int, num_workers: int = 1
    ) -> None:
        self.host = host
        self.prefetches = Prefetches(pool, host)
        self.listener: CopyListener = NO_COPY_LISTENER
        self.copied_blocks_total = 0
        self.loaded_blocks_total = 0
        self.seconds_per_block: float | None = None  # one way, measured
        self._pool = pool
        self.budget_blocks = self._least_budget_blocks = max(1, budget_blocks)
        self._num_workers = num_workers
        self._next_batch_id = 0
        self._copy_outs: dict[str, _CopyOut] = {}
        self._queue: deque[_CopyOut] = deque()
        self._loads: deque[_Load] = deque()
        self._urgent: list[tuple[BlockHash, int, int]] = []  # hash, host slot, device block
        self._urgent_under_way: dict[int, list[BlockHash]] = {}
        self._saves: list[tuple[BlockHash, int, int]] = []  # hash, device block, host slot
        self._saves_under_way: dict[int, list[BlockHash]] = {}
        self._saved: dict[str, list[BlockHash]] = {}  # by request or pause
        self._loading: dict[str, _Load] = {}
        self._loads_in: dict[int, list[_Load]] = {}  # batch -> loads with blocks in it
        self._failed_loads: set[str] = set()
        self._issued: dict[int, list[_IssuedStore]] = {}
        self._awaiting: dict[BlockHash, list[_CopyOut]] = {}
        self._progressed: dict[str, None] = {}  # in the order of the events
        self._reports: dict[int, int] = {}
        self._failed: set[int] = set()

    def copy_out(
        self, pause_id: str, blocks: list[KVCacheBlock], block_hashes: list[BlockHash]
    ) -> None:
        """Queue a paused context's full blocks, front first. Blocks with a copy are skipped."""
        assert pause_id not in self._copy_outs
        job = _CopyOut(pause_id, blocks, block_hashes[: len(blocks)])
        self._copy_outs[pause_id] = job
        self._queue.append(job)

    def end_pause(self, pause_id: str, forget: bool) -> None:
        """The pause is over: copy no more, and rely on its copies no longer.

        Args:
            pause_id: which pause.
            forget: its session will not come back.
        """
        self.release_saved(pause_id)
        job = self._copy_outs.pop(pause_id, None)
        if job is None:
            return
        job.abandoned = True
        if job in self._queue:
            self._queue.remove(job)
        self.host.unpin(job.pinned, forget=forget)
        job.pinned = []

    def stop_copying(self, pause_id: str, keep_blocks: int = 0) -> None:
        """Copy out no block of the pause past the first `keep_blocks` that was not issued yet.

        Must be called before such blocks are given back: they may be overwritten then. Copies
        that were issued hold their own references, and stay.
        """
        job = self._copy_outs.get(pause_id)
        if job is None:
            return
        job.truncate(max(job.next_block, keep_blocks))
        if job.all_issued and job in self._queue:
            self._queue.remove(job)

    def load(
        self, request_id: str, block_hashes: list[BlockHash], device_blocks: list[int]
    ) -> None:
        """Queue loads of host copies into device blocks for a request."""
        slots = [self.host.pin(block_hash) for block_hash in block_hashes]
        pairs = deque(zip(slots, device_blocks, strict=True))
        load = _Load(request_id, pairs, block_hashes)
        self._loads.append(load)
        self._loading[request_id] = load

    def load_urgently(self, block_hashes: list[BlockHash], device_blocks: list[int]) -> None:
        """Load host copies in this iteration, whatever the budget: its computation reads them."""
        for block_hash, block in zip(block_hashes, device_blocks, strict=True):
            self._urgent.append((block_hash, self.host.pin(block_hash), block))

    def save(self, owner: str, blocks: list[KVCacheBlock], block_hashes: list[BlockHash]) -> None:
        """Copy blocks that are given away now, before this iteration overwrites them.

        Whatever the budget: the alternative is to compute them again. Where host memory is full
        of copies that others rely on, only the front is kept. The copies are relied on until
        `release_saved`.
        """
        kept = self._saved.setdefault(owner, [])
        for block, block_hash in zip(blocks, block_hashes, strict=False):
            if block_hash in self.host:
                self.host.pin(block_hash)
            else:
                slot = self.host.reserve(block_hash)  # pinned until the copy is complete
                if slot is None:
                    return
                self.host.pin(block_hash)
                self._saves.append((block_hash, block.block_id, slot))
            kept.append(block_hash)

    def saved_blocks(self, owner: str) -> int:
        """How many blocks of a context were copied when they had to give way."""
        return len(self._saved.get(owner, ()))

    def release_saved(self, owner: str) -> None:
        """The context is on the device again, or is not wanted any more."""
        self.host.unpin(self._saved.pop(owner, ()))

    def fit_budget(self, iteration_seconds: float) -> None:
        """Copy as much per iteration as the link moves while one computes, at least what was
        configured (InferCept, section 4.1: `T_swap(N) = T_fwd(B)`)."""
        if self.seconds_per_block:
            hidden = int(iteration_seconds / self.seconds_per_block)
            self.budget_blocks = max(self._least_budget_blocks, hidden)

    def observe_speed(self, blocks: int, seconds: float) -> None:
        """Copies of so many blocks took this long."""
        if blocks <= 0:
            return
        measured = seconds / blocks
        if self.seconds_per_block is None:
            self.seconds_per_block = measured
        weight = min(1.0, blocks / SPEED_MEMORY_BLOCKS)
        self.seconds_per_block += weight * (measured - self.seconds_per_block)

    @property
    def backlog_blocks(self) -> int:
        """Blocks whose copies, out or in, are queued or under way."""
        queued = sum(len(job.blocks) - job.next_block for job in self._queue)
        loading = sum(len(load.block_hashes) for load in self._loading.values())
        storing = sum(map(len, self._issued.values()))
        return queued + loading + storing + self.prefetches.backlog_blocks

    @property
    def pending(self) -> bool:
        """Whether anything is queued or under way."""
        copies = self._queue or self._loads or self._loading or self._issued or self._saves
        return bool(copies) or self.prefetches.pending

    def next_batch(self) -> CopyBatch | None:
        """The copies of this iteration, None when there are none."""
        batch = CopyBatch(self._next_batch_id)
        saves, self._saves = self._saves, []
        batch.urgent_stores = [(block, slot) for _, block, slot in saves]
        urgent, self._urgent = self._urgent, []
        batch.urgent_loads = [(slot, block) for _, slot, block in urgent]
        self._take_loads(batch)
        stores = self._take_stores(batch)
        self.prefetches.take(batch, self.budget_blocks)
        if batch.num_blocks == 0:
            return None
        self._next_batch_id += 1
        self._issued[batch.id] = stores
        if saves:
            self._saves_under_way[batch.id] = [block_hash for block_hash, _, _ in saves]
        if urgent:
            self._urgent_under_way[batch.id] = [block_hash for block_hash, _, _ in urgent]
        self.listener.copies_launched(batch)
        return batch

    def _take_loads(self, batch: CopyBatch) -> None:
        while self._loads and batch.num_blocks < self.budget_blocks:
            load = self._loads[0]
            self._loads_in.setdefault(batch.id, []).append(load)
            while load.pairs and batch.num_blocks < self.budget_blocks:
                batch.loads.append(load.pairs.popleft())
            if not load.pairs:
                self._loads.popleft()
                batch.finished_loads.append(load.request_id)

    def _take_stores(self, batch: CopyBatch) -> list[_IssuedStore]:
        issued: list[_IssuedStore] = []
        while self._queue and batch.num_blocks < self.budget_blocks:
            job = self._queue[0]
            while not job.all_issued and batch.num_blocks < self.budget_blocks:
                block_hash = job.block_hashes[job.next_block]
                block = job.blocks[job.next_block]
                if block_hash in self.host:
                    self.host.pin(block_hash)
                    if not self.host.is_filled(block_hash):
                        self._awaiting.setdefault(block_hash, []).append(job)
                else:
                    slot = self.host.reserve(block_hash)  # pinned until the copy is complete
                    if slot is None:
                        # Host memory is full of copies that others rely on: keep the front.
                        job.truncate(job.next_block)
                        break
                    self.host.pin(block_hash)
                    self._pool.touch([block])
                    batch.stores.append((block.block_id, slot))
                    issued.append(_IssuedStore(job, block, block_hash))
                    job.in_flight += 1
                job.pinned.append(block_hash)
                job.next_block += 1
            if job.all_issued:
                self._queue.popleft()
                self._progressed[job.pause_id] = None
        return issued

    def finish_loads(self, request_ids: set[str]) -> None:
        """The workers report that these requests' loads are over; their batches are by now."""
        for request_id in request_ids:
            load = self._loading.pop(request_id, None)
            if load is not None:
                self.loaded_blocks_total += len(load.block_hashes)
                self.host.unpin(load.block_hashes)
                if load.failed:
                    self._failed_loads.add(request_id)

    def has_failed(self, request_id: str) -> bool:
        """Whether a load for the request failed: it computes what it lacks, and loads nothing."""
        return request_id in self._failed_loads

    def forgive(self, request_id: str) -> None:
        """The request has blocks to compute in, or is gone: it may load again."""
        self._failed_loads.discard(request_id)

    def finish_stores(self, completed: dict[int, int], failed: dict[int, int]) -> None:
        """The workers report finished batches: batch id -> number of ranks that report it."""
        for batch_id, ranks in (*completed.items(), *failed.items()):
            self._reports[batch_id] = self._reports.get(batch_id, 0) + ranks
        self._failed.update(failed)
        for batch_id in sorted(completed.keys() | failed.keys()):
            if self._reports[batch_id] < self._num_workers:
                continue
            del self._reports[batch_id]
            stores = self._issued.pop(batch_id, [])
            loaded = self._urgent_under_way.pop(batch_id, [])
            self.loaded_blocks_total += len(loaded)
            self.host.unpin(loaded)
            succeeded = batch_id not in self._failed
            self.listener.copies_finished(batch_id, succeeded)
            for load in self._loads_in.pop(batch_id, ()):
                load.failed |= not succeeded
            self.prefetches.finish(batch_id, succeeded)
            self._failed.discard(batch_id)
            self._finish_saves(self._saves_under_way.pop(batch_id, ()), succeeded)
            for store in stores:
                self._finish_store(store, succeeded)

    def _finish_saves(self, block_hashes: Iterable[BlockHash], succeeded: bool) -> None:
        for block_hash in block_hashes:
            self._note_progress(self._awaiting.pop(block_hash, ()))
            if succeeded:
                self.copied_blocks_total += 1
                self.host.fill(block_hash)
                self.host.unpin([block_hash])
            else:
                self._drop_failed(block_hash)

    def _finish_store(self, store: _IssuedStore, succeeded: bool) -> None:
        job = store.job
        job.in_flight -= 1
        self._pool.free_blocks([store.block])
        self._note_progress([job, *self._awaiting.pop(store.block_hash, ())])
        if succeeded:
            self.copied_blocks_total += 1
            self.host.fill(store.block_hash)
            self.host.unpin([store.block_hash], forget=job.abandoned)
            return
        self._drop_failed(store.block_hash)

    def _drop_failed(self, block_hash: BlockHash) -> None:
        """A failed copy: nobody can rely on it, and the rest of the context is of no use."""
        for other in self._copy_outs.values():
            if block_hash in other.pinned:
                position = other.pinned.index(block_hash)
                self.host.unpin(other.pinned[position + 1 :])
                del other.pinned[position:]
                other.truncate(position)
                other.next_block = position
        for kept in self._saved.values():
            if block_hash in kept:
                position = kept.index(block_hash)
                self.host.unpin(kept[position + 1 :])
                del kept[position:]
        self.host.drop(block_hash)

    def _note_progress(self, jobs: Iterable[_CopyOut]) -> None:
        self._progressed |= dict.fromkeys(job.pause_id for job in jobs if not job.abandoned)

    def progress(self, pause_id: str) -> CopiedContext | None:
        """How much of a pause's context has a host copy, None when none was asked for."""
        job = self._copy_outs.get(pause_id)
        if job is None:
            return None
        copied = self.host.filled_run(job.block_hashes, 0, len(job.pinned))
        return CopiedContext(pause_id, copied, job.all_issued and copied == len(job.pinned))

    def take_progressed(self) -> list[str]:
        """Ids of pauses whose copies have got further since the last call."""
        progressed, self._progressed = list(self._progressed), {}
        return progressed

    def has_copies(self) -> bool:
        """Whether any pause or request has copies (integrity check)."""
        return bool(self._copy_outs or self._saved)
