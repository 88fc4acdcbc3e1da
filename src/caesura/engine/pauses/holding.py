"""Holds of paused contexts, and the copies of them: how holds begin, grow and are broken."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import KVCacheBlock
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

from caesura.engine.copies.blocks import forget_blocks, full_blocks
from caesura.engine.copies.contexts import HostContexts, Prefetched
from caesura.engine.metrics import PauseMetrics
from caesura.engine.pauses.holds import OwnBlocks, References
from caesura.engine.pauses.parking import Parking
from caesura.engine.pauses.pause import (
    NO_PAUSE_LISTENER,
    HoldEnding,
    Pause,
    PauseListener,
    RecomputeCause,
)
from caesura.engine.pauses.snapshots import Snapshots
from caesura.engine.pauses.table import PauseTable
from caesura.engine.pauses.waste import WasteMeter
from caesura.policy import Disposition, Policy

_LOST_BY = {
    HoldEnding.DECIDED: RecomputeCause.DROPPED,
    HoldEnding.EXPIRED: RecomputeCause.DROPPED,
    HoldEnding.COPIED: RecomputeCause.COPY_LOST,
    HoldEnding.RELEASED: RecomputeCause.EVICTED,
    HoldEnding.RESUMED: RecomputeCause.TEMPLATE,
    HoldEnding.CANCELLED: RecomputeCause.RESET,
}


@dataclass(slots=True, eq=False)
class Holding:
    """Holds and copies of the pauses of one engine; tells a listener what happens to them."""

    table: PauseTable
    policy: Policy
    snapshots: Snapshots
    scheduler: Scheduler
    parking: Parking
    contexts: HostContexts
    metrics: PauseMetrics
    waste: WasteMeter
    listener: PauseListener = field(default=NO_PAUSE_LISTENER, init=False)
    # Copied, but an iteration in flight may write yet.
    _postponed: dict[str, None] = field(default_factory=dict, init=False)

    @property
    def _pool(self) -> BlockPool:
        return self.scheduler.kv_cache_manager.block_pool

    @property
    def _block_size(self) -> int:
        return self.scheduler.block_size

    def _blocks(self, request: Request) -> list[KVCacheBlock]:
        return list(self.scheduler.kv_cache_manager.get_blocks(request.request_id).blocks[0])

    @property
    def has_postponed(self) -> bool:
        """Whether holds are to be broken when the iteration in flight is over."""
        return bool(self._postponed)

    def begin(self, pause: Pause, request: Request) -> None:
        """Hold the blocks of a request that has paused; they are still its own."""
        blocks = self._blocks(request)
        full = full_blocks(blocks)
        if pause.in_place and blocks:
            pause.hold = OwnBlocks(blocks, pause.context_tokens)
        elif full:
            pause.hold = References(self._pool, full, self._block_size)
        if pause.hold is not None:
            self.waste.keep(pause.hold.blocks())

    def end(self, pause: Pause, ending: HoldEnding) -> None:
        """A pause is over, and its hold with it."""
        if isinstance(pause.hold, OwnBlocks):
            # Its request goes on with these blocks, or vLLM frees them with the request.
            self.metrics.count("hold_endings", labels=(ending,))
            self.waste.let_go(pause.hold.blocks())
            pause.hold = None
        else:
            self.release(pause, ending)

    def may_release(self, pause: Pause) -> bool:
        """Whether there is a hold that no iteration in flight keeps from being broken."""
        if isinstance(pause.hold, OwnBlocks):
            assert pause.request is not None
            return self.parking.can_free(pause.request)
        return pause.hold is not None

    def release(
        self, pause: Pause, ending: HoldEnding, keep_tokens: int = 0, forget: bool = False
    ) -> None:
        """Break a hold, or only its tail: the leading `keep_tokens` stay held."""
        self.contexts.stop_prefetch(pause.copy)
        hold = pause.hold
        if hold is None:
            return
        blocks = list(hold.blocks())
        keep_blocks = min(keep_tokens // self._block_size, len(full_blocks(blocks)))
        self.waste.let_go(blocks[keep_blocks:])
        if keep_blocks < len(blocks):
            pause.lost = _LOST_BY[ending]
        self.contexts.shorten(pause.copy, keep_blocks)
        if ending is HoldEnding.RELEASED and self.saves_contexts():
            dropped, hashes = full_blocks(blocks[keep_blocks:]), pause.block_hashes[keep_blocks:]
            self.contexts.save(pause.id, dropped, hashes, partial(self._copies_given_up, pause))
        if isinstance(hold, OwnBlocks):
            assert pause.request is not None
            front = References(self._pool, blocks[:keep_blocks], self._block_size)
            self.parking.free(pause.request)
            pause.hold = front if keep_blocks else None
        else:
            assert isinstance(hold, References)
            hold.trim(keep_blocks)
            pause.hold = hold if keep_blocks else None
        self.listener.hold_broken(pause, ending, (len(blocks) - keep_blocks) * self._block_size)
        if forget:
            forget_blocks(self._pool, blocks[keep_blocks:])
        if pause.hold is None:
            self.metrics.count("hold_endings", labels=(ending,))

    def copy_out(self, pause: Pause) -> None:
        """Start copying a held context to host memory; without any, the hold stays."""
        if pause.hold is not None and not pause.returning:
            self.contexts.copy_out(pause.copy, pause.hold.blocks())
            self._settle_copy(pause)

    def settle_copies(self) -> None:
        """Release the device blocks of contexts whose copies are complete, and hold what was
        loaded."""
        for prefetched in self.contexts.take_prefetched():
            self._hold_prefetched(prefetched)
        progressed = [copy.context_id for copy in self.contexts.take_progressed()]
        postponed, self._postponed = self._postponed, {}
        for pause_id in dict.fromkeys([*progressed, *postponed]):
            pause = self.table.get(pause_id)
            if pause is not None:
                self._settle_copy(pause)

    def _settle_copy(self, pause: Pause) -> None:
        """If all of a context that is to be swapped out is copied, its blocks are released."""
        if pause.hold is None or pause.returning or pause.disposition is not Disposition.SWAP:
            return
        whole = pause.copy.copied_blocks >= len(full_blocks(pause.hold.blocks()))
        if not pause.copy.complete or not whole:
            return
        if self.may_release(pause):
            self.release(pause, HoldEnding.COPIED)
        else:
            self._postponed[pause.id] = None

    def prefetch(self, pause: Pause) -> None:
        """Start to load what the device lacks of a context; without a copy nothing happens."""
        if not pause.returning and not isinstance(pause.hold, OwnBlocks):
            self.contexts.prefetch(pause.copy, pause.held_tokens // self._block_size)

    def _hold_prefetched(self, prefetched: Prefetched) -> None:
        """What was loaded ahead of a session is held like the rest of its context."""
        pause = self.table.get(prefetched.context_id)
        assert pause is not None, "the end of a pause stops its prefetch"
        if pause.hold is None:
            pause.hold = References(self._pool, prefetched.blocks, self._block_size)
        else:
            assert isinstance(pause.hold, References)
            assert pause.held_tokens == prefetched.first * self._block_size
            pause.hold.extend(prefetched.blocks)
        self.waste.keep(prefetched.blocks)
        self.listener.prefetched(pause, prefetched.loaded_tokens)

    def saves_contexts(self) -> bool:
        """Whether a preempted context is copied out rather than computed again."""
        has_host_memory = self.contexts.memory().total_tokens > 0
        return has_host_memory and self.policy.saves_contexts(self.snapshots.costs())

    def save_preempted(self, request: Request) -> None:
        """A running request gives its blocks back: copy what is computed, if that is cheaper
        than computing it again. Called while its blocks are still its own."""
        if not self.saves_contexts():
            return
        self.contexts.describe(request)
        blocks = full_blocks(self._blocks(request))
        given_up = partial(self._copies_given_up, None)
        self.contexts.save(request.request_id, blocks, request.block_hashes, given_up)

    def _copies_given_up(self, pause: Pause | None, lacking_blocks: int) -> Iterable[str]:
        """Host memory lacks so many blocks for a pause's context, or for that of a request: the
        pauses whose copies are worth less."""
        tokens = lacking_blocks * self._block_size
        return self.policy.copies_given_up(self.snapshots.take(), tokens, pause)
