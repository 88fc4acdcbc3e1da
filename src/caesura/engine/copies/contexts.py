"""What host memory has of paused contexts, and what is on its way there or back."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from vllm.v1.core.kv_cache_utils import BlockHash, KVCacheBlock
from vllm.v1.request import Request

from caesura.engine.copies.blocks import ContextBlocks, full_blocks
from caesura.engine.copies.prefetches import Prefetch, PrefetchEnding
from caesura.engine.copies.transfers import Transfers
from caesura.engine.metrics import PauseMetrics
from caesura.policy import Memory


@dataclass(slots=True, eq=False)
class HostCopy:
    """What host memory has of one paused context.

    Attributes:
        context_id: the id of the pause.
        block_hashes: hashes of the context's full blocks.
        requested: a copy was asked for, and not given up.
        copied_blocks: leading blocks with a readable copy.
        complete: no more blocks will be copied.
        saved_blocks: blocks that were copied when the hold on them was broken.
        load_failed: a load ahead of the session's return failed; it is not tried again.
        prefetched: positions in the context at which the prefetches begin whose blocks the
            device still has.
    """

    context_id: str
    block_hashes: list[BlockHash]
    requested: bool = False
    copied_blocks: int = 0
    complete: bool = False
    saved_blocks: int = 0
    load_failed: bool = False
    prefetched: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Prefetched:
    """Blocks that a prefetch has brought to the device.

    Attributes:
        context_id: the id of the pause.
        first: how many leading blocks of the context were held before.
        end: how many can be now.
        blocks: those that are new; with one KV cache group, in context order.
        loaded_tokens: tokens that were loaded; the others were found on the device.
    """

    context_id: str
    first: int
    end: int
    blocks: list[KVCacheBlock]
    loaded_tokens: int


@dataclass(frozen=True, slots=True)
class Link:
    """The link between device and host memory.

    Attributes:
        seconds_per_token: time to copy a token's KV one way, None before it was measured.
        backlog_tokens: tokens whose copies, either way, are queued or under way.
        budget_tokens: tokens copied per iteration at most, out and in together.
        share_used: share of the copies in host memory that sessions come back to.
    """

    seconds_per_token: float | None = None
    backlog_tokens: int = 0
    budget_tokens: int = 0
    share_used: float = 1.0


CopiesGivenUp = Callable[[int], Iterable[str]]
"""Host memory lacks so many blocks: the ids of the contexts whose copies are dropped for them."""


@dataclass(slots=True, eq=False)
class HostContexts:
    """Host copies of paused contexts. Without host memory there are none, and none is started."""

    transfers: Transfers
    block_size: int
    metrics: PauseMetrics
    _copies: dict[str, HostCopy] = field(default_factory=dict, init=False)
    _counted_blocks: int = field(default=0, init=False)
    _counted_failures: int = field(default=0, init=False)

    def memory(self) -> Memory:
        """Host memory for copies, in tokens."""
        host = self.transfers.host
        return Memory(host.num_slots * self.block_size, host.available_slots * self.block_size)

    def used_tokens(self) -> int:
        """Tokens that host memory holds or receives a copy of."""
        return self.transfers.host.used_slots * self.block_size

    def link(self) -> Link:
        """How fast and how busy the link to host memory is."""
        if not self.transfers.host.num_slots:
            return Link()
        per_block = self.transfers.seconds_per_block
        return Link(
            None if per_block is None else per_block / self.block_size,
            self.transfers.backlog_blocks * self.block_size,
            self.transfers.budget_blocks * self.block_size,
            self.transfers.share_used(),
        )

    def describe(self, request: Request) -> None:
        """A request's blocks may be copied; see `HostEvents`."""
        self.transfers.host.events.describe(request)

    def enter(self, context_id: str, block_hashes: list[BlockHash]) -> HostCopy:
        """A context is paused. Its record is kept until `end`."""
        copy = self._copies[context_id] = HostCopy(context_id, block_hashes)
        return copy

    # Out

    def copy_out(self, copy: HostCopy, context: ContextBlocks) -> None:
        """Start to copy a context's full blocks, front first, unless that was started before."""
        if not self.transfers.host.num_slots:
            return
        if context.tokens and self.transfers.copies_out.progress(copy.context_id) is None:
            self._start_copy(copy, context)
        self._refresh(copy)

    def _start_copy(self, copy: HostCopy, context: ContextBlocks) -> None:
        groups, end = self.transfers.groups, context.tokens // self.block_size
        keys = groups.keys(copy.block_hashes, 0, end)
        self.transfers.copies_out.start(
            copy.context_id, groups.pick(context.tables, 0, end), keys, end
        )
        copy.requested = True

    def save(
        self,
        owner: str,
        context: ContextBlocks,
        first_tokens: int,
        block_hashes: list[BlockHash],
        given_up: CopiesGivenUp,
    ) -> None:
        """Copy full blocks before the coming iteration overwrites them.

        Args:
            owner: the id of the paused context or of the request that they belong to.
            context: it is about to be given back,
            first_tokens: but for so many leading tokens.
            block_hashes: hashes of its full blocks; there may be more.
            given_up: chooses the copies that are dropped if host memory is full.
        """
        groups, saves = self.transfers.groups, self.transfers.saves
        first, end = first_tokens // self.block_size, context.tokens // self.block_size
        keys = groups.keys(block_hashes, first, end, whole=True)
        blocks = groups.pick(context.tables, first, end, whole=True)
        lacking = len(blocks) - self.transfers.host.available_slots
        if lacking > 0:
            for context_id in given_up(lacking):
                other = self._copies.get(context_id)
                if other is not None:
                    self.drop(other)
        saved = saves.save(owner, blocks, keys, partly=groups.prefixes)
        copy = self._copies.get(owner)
        if copy is not None and groups.prefixes:
            copy.saved_blocks = saves.saved_blocks(owner)
        elif copy is not None:
            copy.saved_blocks = copy.saved_blocks + end - first if saved else 0

    def shorten(self, copy: HostCopy, front: ContextBlocks) -> None:
        """The device is about to give back all but a front of a context: copy nothing else, and
        load nothing else ahead."""
        keep_blocks = front.tokens // self.block_size
        copies_out = self.transfers.copies_out
        if self.transfers.groups.prefixes:
            copies_out.keep_only(copy.context_id, keep_blocks)
        elif copies_out.is_queued(copy.context_id):
            # What was copied is of use at a boundary that is given up; of the front the policy
            # may ask for a copy.
            copies_out.end(copy.context_id, forget=False)
            copy.copied_blocks = 0
            copy.requested = copy.complete = False
        while copy.prefetched and copy.prefetched[-1] >= keep_blocks:
            copy.prefetched.pop()
            self._count(PrefetchEnding.WASTED)

    def take_progressed(self) -> list[HostCopy]:
        """Contexts whose copies out have got further since the last call."""
        progressed = []
        for context_id in self.transfers.writes.take_progressed():
            copy = self._copies.get(context_id)
            if copy is not None:
                self._refresh(copy)
                progressed.append(copy)
        return progressed

    def _refresh(self, copy: HostCopy) -> None:
        progress = self.transfers.copies_out.progress(copy.context_id)
        if progress is not None:
            copy.copied_blocks, copy.complete = progress.copied_blocks, progress.complete

    def drop(self, copy: HostCopy) -> None:
        """Give up a context's copies."""
        self._rely_no_longer(copy, forget=True)
        copy.copied_blocks = copy.saved_blocks = 0
        copy.requested = copy.complete = False

    def _rely_no_longer(self, copy: HostCopy, *, forget: bool) -> None:
        self.transfers.saves.release(copy.context_id)
        self.transfers.copies_out.end(copy.context_id, forget=forget)

    def count_copies(self) -> None:
        """Count the tokens copied out since the last call, and the copies that failed."""
        copied = self.transfers.writes.copied_blocks
        self.metrics.count("copied_tokens", (copied - self._counted_blocks) * self.block_size)
        self._counted_blocks = copied
        failed = self.transfers.failed_batches
        self.metrics.count("failed_copies", failed - self._counted_failures)
        self._counted_failures = failed

    # In

    def prefetch(self, copy: HostCopy, first: int) -> None:
        """Start to load blocks from position `first` on that the device lacks."""
        if self.transfers.host.num_slots:
            self.transfers.prefetches.start(copy.context_id, copy.block_hashes, first)

    def stop_prefetch(self, copy: HostCopy) -> None:
        """Load no more of a context ahead of its session's return."""
        if self.transfers.prefetches.stop(copy.context_id):
            self._count(PrefetchEnding.WASTED)

    def take_prefetched(self) -> Iterator[Prefetched]:
        """Prefetches that are over. Their blocks can be found by their hashes from now on, and
        are free again unless the caller references them before it asks for the next."""
        for prefetch in self.transfers.prefetches.take_finished():
            copy = self._copies[prefetch.context_id]
            brought = self._brought(copy, prefetch)
            if brought is None:
                self._count(PrefetchEnding.WASTED)
            else:
                copy.prefetched.append(brought.first)
                self.metrics.count("prefetched_tokens", brought.loaded_tokens)
                yield brought
            self.transfers.prefetches.release(prefetch)

    def _brought(self, copy: HostCopy, prefetch: Prefetch) -> Prefetched | None:
        if prefetch.failed:
            copy.load_failed = True
            return None
        self.transfers.prefetches.enter(prefetch)
        blocks = prefetch.blocks
        if self.transfers.groups.prefixes:
            blocks = full_blocks(blocks)
        if not blocks:
            return None
        first, loaded_tokens = prefetch.first, len(prefetch.keys) * self.block_size
        end = first + len(blocks) if self.transfers.groups.prefixes else prefetch.end
        return Prefetched(copy.context_id, first, end, blocks, loaded_tokens)

    # Returns

    def claim(self, copy: HostCopy, request_id: str) -> None:
        """A session returns with this request: copy no more of its context out, and begin no
        more loads ahead of it."""
        self.transfers.copies_out.keep_only(copy.context_id, 0)
        self.transfers.prefetches.cut_short(copy.context_id, awaited_by=request_id)

    def found(self, copy: HostCopy, found_tokens: int) -> None:
        """A returning session has found this much of its context on the device."""
        for first in copy.prefetched:
            used = found_tokens > first * self.block_size
            self._count(PrefetchEnding.USED if used else PrefetchEnding.WASTED)
        copy.prefetched.clear()

    def end(self, copy: HostCopy, *, forget: bool) -> None:
        """A pause is over.

        Args:
            copy: its record.
            forget: the session will not come back, so its copies are the first to be replaced.
        """
        self._rely_no_longer(copy, forget=forget)
        del self._copies[copy.context_id]

    # Books

    @property
    def pending(self) -> bool:
        """Whether any copies are queued or under way."""
        return self.transfers.pending

    def is_empty(self) -> bool:
        """Whether nothing is left of any pause (integrity check)."""
        transfers = self.transfers
        if self._copies or not (transfers.copies_out.is_empty() and transfers.saves.is_empty()):
            return False
        if transfers.pending:
            return True  # copies under way have pins and blocks of their own
        return transfers.prefetches.is_empty() and not transfers.host.pinned_slots

    def _count(self, ending: PrefetchEnding) -> None:
        self.metrics.count("prefetches", labels=(ending,))
