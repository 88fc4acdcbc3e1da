"""What host memory has of paused contexts, and what is on its way there or back.

`HostContexts` is for engines without host memory: it has nothing and starts nothing.
`CopiedContexts` is for those with some. Whoever uses them need not know which it is.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from vllm.v1.core.kv_cache_utils import BlockHash, KVCacheBlock

from caesura.engine.copies.listener import CopyListener
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
        first: position of the first block in the context.
        blocks: full blocks, in context order.
        loaded_tokens: tokens that were loaded; the others were found on the device.
    """

    context_id: str
    first: int
    blocks: list[KVCacheBlock]
    loaded_tokens: int


@dataclass(frozen=True, slots=True)
class Link:
    """The link between device and host memory.

    Attributes:
        seconds_per_token: time to copy a token's KV one way, None before it was measured.
        backlog_tokens: tokens whose copies, either way, are queued or under way.
        budget_tokens: tokens copied per iteration at most, out and in together.
    """

    seconds_per_token: float | None = None
    backlog_tokens: int = 0
    budget_tokens: int = 0


CopiesGivenUp = Callable[[int], Iterable[str]]
"""Host memory lacks so many blocks: the ids of the contexts whose copies are dropped for them."""


class HostContexts:
    """Host copies of paused contexts on an engine without host memory: there are none."""

    def memory(self) -> Memory:
        """Host memory for copies, in tokens."""
        return Memory(0, 0)

    def used_tokens(self) -> int:
        """Tokens that host memory holds or receives a copy of."""
        return 0

    def link(self) -> Link:
        """How fast and how busy the link to host memory is."""
        return Link()

    def enter(self, context_id: str, block_hashes: list[BlockHash]) -> HostCopy:
        """A context is paused. Its record is kept until `end`."""
        return HostCopy(context_id, block_hashes)

    # Out

    def copy_out(self, copy: HostCopy, blocks: Sequence[KVCacheBlock]) -> None:
        """Start to copy a context's full blocks, front first, unless that was started before."""

    def save(
        self,
        owner: str,
        blocks: list[KVCacheBlock],
        block_hashes: list[BlockHash],
        given_up: CopiesGivenUp,
    ) -> None:
        """Copy full blocks before the coming iteration overwrites them.

        Args:
            owner: the id of the paused context or of the request that they belong to.
            blocks: device blocks that are about to be given back.
            block_hashes: their hashes; there may be more.
            given_up: chooses the copies that are dropped if host memory is full.
        """

    def shorten(self, copy: HostCopy, keep_blocks: int) -> None:
        """The device is about to give back all but the first blocks of a context: copy no others,
        and load none ahead."""

    def take_progressed(self) -> list[HostCopy]:
        """Contexts whose copies out have got further since the last call."""
        return []

    def drop(self, copy: HostCopy) -> None:
        """Give up a context's copies."""

    def count_copies(self) -> None:
        """Count the tokens copied out since the last call."""

    def fit_budget(self, iteration_seconds: float) -> None:
        """Copy as much per iteration as the link moves in the time of one."""

    # In

    def prefetch(self, copy: HostCopy, first: int) -> None:
        """Start to load blocks from position `first` on that the device lacks."""

    def stop_prefetch(self, copy: HostCopy) -> None:
        """Load no more of a context ahead of its session's return."""

    def cut_prefetches_short(self) -> None:
        """A request lacks device memory: take no more of it than loads under way need."""

    def take_prefetched(self) -> Iterator[Prefetched]:
        """Prefetches that are over. Their blocks can be found by their hashes from now on, and
        are free again unless the caller references them before it asks for the next."""
        return iter(())

    # Returns

    def claim(self, copy: HostCopy, request_id: str) -> None:
        """A session returns with this request: copy no more of its context out, and begin no
        more loads ahead of it."""

    def found(self, copy: HostCopy, found_tokens: int) -> None:
        """A returning session has found this much of its context on the device."""

    def end(self, copy: HostCopy, *, forget: bool) -> None:
        """A pause is over.

        Args:
            copy: its record.
            forget: the session will not come back, so its copies are the first to be replaced.
        """

    # Books

    @property
    def pending(self) -> bool:
        """Whether any copies are queued or under way."""
        return False

    def report_to(self, listener: CopyListener) -> None:
        """Tell a listener of the copies."""

    def is_empty(self) -> bool:
        """Whether nothing is left of any pause (integrity check)."""
        return True
