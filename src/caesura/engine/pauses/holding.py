"""Holds of paused contexts, and the copies of them: how holds begin, grow and are broken."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

from caesura.engine.copies.blocks import ContextBlocks, forget_blocks
from caesura.engine.copies.contexts import HostContexts, Prefetched
from caesura.engine.metrics import PauseMetrics
from caesura.engine.pauses.holds import Hold, OwnBlocks, References
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
from caesura.engine.pauses.tables import BlockTables
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
    tables: BlockTables
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

    @property
    def has_postponed(self) -> bool:
        """Whether holds are to be broken when the iteration in flight is over."""
        return bool(self._postponed)

    def begin(self, pause: Pause, request: Request) -> None:
        """Hold the blocks of a request that has paused; they are still its own."""
        if pause.in_place:
            self.tables.trim(request, pause.context_tokens)
        own = self.tables.of(request.request_id)
        if pause.in_place and any(own):
            pause.hold = OwnBlocks(self.tables, own, pause.context_tokens)
        else:
            context = self._findable(request, pause.context_tokens)
            if context.tokens:
                pause.hold = References(self._pool, context)
        if pause.hold is not None:
            self.waste.keep(pause.hold.began_with)

    def _findable(self, request: Request, tokens: int) -> ContextBlocks:
        """What the prefix cache can find again of a request that has its blocks."""
        own = self.tables.of(request.request_id)
        return self.tables.findable(own, request.request_id, request.block_hashes, tokens)

    def _findable_of(self, pause: Pause, hold: Hold) -> ContextBlocks:
        """The same of what a pause holds."""
        request_id = pause.id if isinstance(hold, OwnBlocks) else None
        return self.tables.findable(hold.tables, request_id, pause.block_hashes, hold.tokens)

    def _own_of(self, pause: Pause, hold: Hold) -> ContextBlocks:
        """Of this, what consists of the held blocks."""
        request_id = pause.id if isinstance(hold, OwnBlocks) else None
        return self.tables.own(hold.tables, request_id, pause.block_hashes, hold.tokens)

    def end(self, pause: Pause, ending: HoldEnding) -> None:
        """A pause is over, and its hold with it."""
        if isinstance(pause.hold, OwnBlocks):
            # Its request goes on with these blocks, or vLLM frees them with the request.
            self.metrics.count("hold_endings", labels=(ending,))
            self.waste.let_go(pause.hold.began_with)
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
        before = list(hold.blocks())
        context = self._findable_of(pause, hold)
        front = self.tables.front(context, pause.block_hashes, min(keep_tokens, context.tokens))
        self.waste.let_go(hold.began_with)
        if front.tokens < hold.tokens:
            pause.lost = _LOST_BY[ending]
        self.contexts.shorten(pause.copy, front)
        if ending is HoldEnding.RELEASED and self.saves_contexts():
            given_up = partial(self._copies_given_up, pause)
            if not self.tables.is_being_computed(context, self.scheduler.running):
                self.contexts.save(pause.id, context, front.tokens, pause.block_hashes, given_up)
        if isinstance(hold, OwnBlocks):
            assert pause.request is not None
            references = References(self._pool, front)
            self.parking.free(pause.request)
        else:
            assert isinstance(hold, References)
            references = hold
            references.move(front)
        pause.hold = references if front.tokens else None
        if pause.hold is not None:
            self.waste.keep(front.blocks)
        freed_blocks = len(before) - len(front.blocks)
        self.listener.hold_broken(pause, ending, freed_blocks * self._block_size)
        if forget:
            kept = {block.block_id for block in front.blocks}
            forget_blocks(self._pool, [block for block in before if block.block_id not in kept])
        if pause.hold is None:
            self.metrics.count("hold_endings", labels=(ending,))

    def copy_out(self, pause: Pause) -> None:
        """Start copying a held context to host memory; without any, the hold stays."""
        if pause.hold is not None and not pause.returning:
            self.contexts.copy_out(pause.copy, self._own_of(pause, pause.hold))
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
        if not pause.copy.complete or (
            pause.copied_tokens < self._own_of(pause, pause.hold).tokens
        ):
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
        hold, blocks = pause.hold, prefetched.blocks
        assert hold is None or isinstance(hold, References)
        held = None if hold is None else hold.context
        tokens = prefetched.end * self._block_size
        context = self.tables.extended(held, blocks, pause.block_hashes, tokens)
        if hold is None:
            hold = References(self._pool, context)
        else:
            assert pause.held_tokens == prefetched.first * self._block_size
            self.waste.let_go(hold.began_with)
            hold.move(context)
        pause.hold = hold if context.tokens else None
        self.waste.keep(context.blocks)
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
        context = self._findable(request, request.num_computed_tokens)
        given_up = partial(self._copies_given_up, None)
        if not self.tables.is_being_computed(context, self.scheduler.running):
            self.contexts.save(request.request_id, context, 0, request.block_hashes, given_up)

    def _copies_given_up(self, pause: Pause | None, lacking_blocks: int) -> Iterable[str]:
        """Host memory lacks so many blocks for a pause's context, or for that of a request: the
        pauses whose copies are worth less."""
        tokens = lacking_blocks * self._block_size
        return self.policy.copies_given_up(self.snapshots.take(), tokens, pause)
