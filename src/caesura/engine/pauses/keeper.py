"""The keeper of pauses: begins, decides, claims, releases and ends them.

It owns the pause table and every hold, asks the policy, and carries plans out. It knows the
block pool and the host copies, and nothing of queues or steps: those are the scheduler's.
"""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import takewhile
from typing import assert_never

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

from caesura.engine.config import CaesuraConfig
from caesura.engine.copies.blocks import forget_blocks, full_blocks
from caesura.engine.copies.contexts import HostContexts, Prefetched
from caesura.engine.metrics import PauseMetrics
from caesura.engine.pauses.costs import StepTimer, profiled_costs
from caesura.engine.pauses.holds import OwnBlocks, References
from caesura.engine.pauses.listener import NO_PAUSE_LISTENER, PauseListener
from caesura.engine.pauses.parking import Parking
from caesura.engine.pauses.returns import Returns
from caesura.engine.pauses.snapshots import Snapshots
from caesura.engine.pauses.table import HoldEnding, Pause, PauseEnding, PauseTable
from caesura.engine.pauses.waits import Waits
from caesura.engine.protocol import owner_of
from caesura.policy import (
    Action,
    CopyAhead,
    CopyOut,
    Disposition,
    Drop,
    DropCopy,
    Expire,
    Keep,
    Policy,
    Prefetch,
    Service,
)


class PauseKeeper:
    """Pauses of one engine.

    Args:
        policy: decides.
        config: limits.
        scheduler: vLLM's, for its blocks.
        parking: sessions in place.
        contexts: host copies of paused contexts.
        metrics: counts.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        policy: Policy,
        config: CaesuraConfig,
        scheduler: Scheduler,
        parking: Parking,
        contexts: HostContexts,
        metrics: PauseMetrics,
        clock: Callable[[], float],
    ) -> None:
        self.table = PauseTable()
        self.timer = StepTimer(profiled_costs(config.profile))
        self.policy = policy
        self.waits = Waits(self.table, policy, metrics, clock)
        self.returns = Returns(policy.name)
        self.clock = clock
        self._config = config
        self.contexts = contexts
        self.snapshots = Snapshots(scheduler, self.table, contexts, self.timer, clock)
        self._kv_cache_manager: KVCacheManager = scheduler.kv_cache_manager
        self._pool: BlockPool = self._kv_cache_manager.block_pool
        self._block_size: int = scheduler.block_size
        self._parking = parking
        self.listener: PauseListener = NO_PAUSE_LISTENER
        self._metrics = metrics
        self._review_seconds: float | None = None
        self._postponed: dict[str, None] = {}  # copied, but an iteration in flight may write yet

    # Beginnings

    def begin(
        self,
        request: Request,
        endpoint: str,
        computed_tokens: int,
        service: Service,
        *,
        in_place: bool,
    ) -> Pause:
        """A session pauses: enter it and hold its blocks until the policy has decided.

        Args:
            request: the engine request; its blocks are still its own.
            endpoint: what it waits for.
            computed_tokens: tokens whose KV is on the device.
            service: what its session has had so far.
            in_place: the request is parked; else it is about to be freed.
        """
        blocks = list(self._kv_cache_manager.get_blocks(request.request_id).blocks[0])
        full = full_blocks(blocks)
        hashes = list(request.block_hashes[: computed_tokens // self._block_size])
        pause = Pause(
            id=request.request_id,
            endpoint=endpoint,
            service=service,
            paused_seconds=self.clock(),
            context_tokens=computed_tokens,
            total_tokens=request.num_tokens,
            prompt_tokens=request.num_prompt_tokens,
            block_hashes=hashes,
            block_size=self._block_size,
            copy=self.contexts.enter(request.request_id, hashes),
            session_id=request.session_id,
            owner=owner_of(request),
            request=request if in_place else None,
        )
        if in_place and blocks:
            pause.hold = OwnBlocks(blocks, computed_tokens)
        elif full:
            pause.hold = References(self._pool, full, self._block_size)
        self.table.add(pause)
        self.waits.begin(pause)
        self.listener.pause_began(pause)
        self._forget_surplus()
        return pause

    # Decisions

    def decide(self) -> None:
        """Ask the policy if something is undecided, new or due for a review; act on its plan."""
        now = self.clock()
        due = self._review_seconds is not None and now >= self._review_seconds
        due = self.waits.take_changed() or due
        if not due and not self.table.has_undecided():
            return
        plan = self.policy.plan(self.snapshots.take())
        self._review_seconds = plan.review_seconds
        later = set()
        for action in plan.actions:
            if not self.act(action, HoldEnding.DECIDED):
                later.add(action.pause_id)
        if later:
            self._review_seconds = now  # ask again when the iteration in flight is over
        for pause in self.table.undecided():
            if pause.id not in later:
                self.table.decided(pause, Disposition.PRESERVE)

    def has_work(self) -> bool:
        """Whether a step of the engine would do something for a pause, though nothing runs."""
        # Without host memory there is nothing that a report of progress could bring about.
        reported = self.waits.changed and self.contexts.memory().total_tokens > 0
        return self.table.has_undecided() or bool(self._postponed) or reported

    def act(self, action: Action, ending: HoldEnding) -> bool:
        """Carry out a decision; False when it has to wait for an iteration in flight."""
        pause = self.table.get(action.pause_id)
        if pause is None:
            return True
        drops = isinstance(action, (Drop, Expire))
        if drops and pause.hold is not None and not self._may_release(pause):
            return False
        disposition = _disposition_after(action, pause)
        if pause.disposition != disposition:
            self._metrics.count("dispositions", labels=(pause.endpoint, disposition))
            self.listener.decided(pause, action, disposition)
        self.table.decided(pause, disposition)
        match action:
            case Keep():
                pass
            case CopyAhead():
                self._copy_out(pause)
            case Prefetch():
                self._prefetch(pause)
            case CopyOut():
                self._copy_out(pause)
                self.contexts.stop_prefetch(pause.copy)
            case Drop():
                self.release(pause, ending, action.keep_tokens, action.forget)
            case Expire():
                self.release(pause, HoldEnding.EXPIRED)
            case DropCopy():
                if disposition is not Disposition.PRESERVE:
                    self.contexts.stop_prefetch(pause.copy)
                self.contexts.drop(pause.copy)
            case _:
                assert_never(action)
        return True

    def _may_release(self, pause: Pause) -> bool:
        if isinstance(pause.hold, OwnBlocks):
            assert pause.request is not None
            return self._parking.can_free(pause.request)
        return pause.hold is not None

    # Holds

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
        self.contexts.shorten(pause.copy, keep_blocks)
        if ending is HoldEnding.RELEASED and self.saves_contexts():
            dropped, hashes = full_blocks(blocks[keep_blocks:]), pause.block_hashes[keep_blocks:]
            self.contexts.save(pause.id, dropped, hashes, partial(self._copies_given_up, pause))
        if isinstance(hold, OwnBlocks):
            assert pause.request is not None
            front = References(self._pool, blocks[:keep_blocks], self._block_size)
            self._parking.free(pause.request)
            pause.hold = front if keep_blocks else None
        else:
            assert isinstance(hold, References)
            hold.trim(keep_blocks)
            pause.hold = hold if keep_blocks else None
        self.listener.hold_broken(pause, ending, (len(blocks) - keep_blocks) * self._block_size)
        if forget:
            forget_blocks(self._pool, blocks[keep_blocks:])
        if pause.hold is None:
            self._metrics.count("hold_endings", labels=(ending,))

    def _copy_out(self, pause: Pause) -> None:
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
        if self._may_release(pause):
            self.release(pause, HoldEnding.COPIED)
        else:
            self._postponed[pause.id] = None

    def _prefetch(self, pause: Pause) -> None:
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
        blocks = full_blocks(self._kv_cache_manager.get_blocks(request.request_id).blocks[0])
        given_up = partial(self._copies_given_up, None)
        self.contexts.save(request.request_id, blocks, request.block_hashes, given_up)

    def _copies_given_up(self, pause: Pause | None, lacking_blocks: int) -> Iterable[str]:
        """Host memory lacks so many blocks for a pause's context, or for that of a request: the
        pauses whose copies are worth less."""
        tokens = lacking_blocks * self._block_size
        return self.policy.copies_given_up(self.snapshots.take(), tokens, pause)

    # Ends

    def resumed(self, pause: Pause, local_tokens: int, loaded_tokens: int) -> None:
        """A session is scheduled again, with this much of its context found or loaded."""
        found = min(local_tokens, pause.context_tokens)
        loaded = min(loaded_tokens, pause.context_tokens - found)
        self._metrics.count("held_tokens", found)
        self._metrics.count("loaded_tokens", loaded)
        self._metrics.count("recomputed_tokens", pause.context_tokens - found - loaded)
        self.contexts.found(pause.copy, found)
        self.listener.resumed(pause, found, loaded)
        self.returns.note(pause, found, loaded)
        self._end(pause, PauseEnding.RESUMED, HoldEnding.RESUMED)

    def claim(self, pause: Pause, request: Request) -> None:
        """The session's tokens have arrived: it returns as this request.

        Of a client's context only what the request still begins with stays held: a client may
        render its history differently, and the last token is computed in any case.
        """
        self.contexts.claim(pause.copy, request.request_id)
        self.table.claim(pause, request.request_id)
        self.listener.claimed(pause)
        self.waits.returned(pause)
        if not pause.in_place and pause.hold is not None:
            pairs = zip(pause.block_hashes, request.block_hashes, strict=False)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            usable_tokens = min(same * self._block_size, request.num_tokens - 1)
            if usable_tokens < pause.held_tokens:
                self.release(pause, HoldEnding.RESUMED, usable_tokens)

    def cancel(self, pause: Pause) -> None:
        """A paused or returning session was closed or aborted."""
        self._end(pause, PauseEnding.CANCELLED, HoldEnding.CANCELLED)

    def _forget_surplus(self) -> None:
        """Forget pauses that are too many, and finished requests' that are too old."""
        too_old = self.clock() - self._config.forget_after_seconds
        surplus = len(self.table) - self._config.max_pauses
        for pause in self.table.oldest_first(max(surplus, 0), too_old):
            if pause.returning:
                continue
            if pause.request is None:
                self._forget(pause)
            elif surplus > 0:
                self._forget(pause)
                self._parking.let_go(pause.request)
            surplus -= 1

    def _forget(self, pause: Pause) -> None:
        """A context is given up: its blocks stay in the prefix cache only."""
        self._end(pause, PauseEnding.FORGOTTEN, HoldEnding.CANCELLED)

    def _end(self, pause: Pause, ending: PauseEnding, hold_ending: HoldEnding) -> None:
        gone = ending is not PauseEnding.RESUMED
        if not pause.returning:
            self.waits.given_up(pause)
        if isinstance(pause.hold, OwnBlocks):
            # Its request goes on with these blocks, or vLLM frees them with the request.
            self._metrics.count("hold_endings", labels=(hold_ending,))
            pause.hold = None
        else:
            self.release(pause, hold_ending)
        self.contexts.end(pause.copy, forget=gone)
        self.table.remove(pause)
        self.listener.pause_ended(pause, ending)
        self.waits.end(pause, ending)

    def forget_contexts(self, *, host_copies: bool) -> None:
        """Break every hold, and drop what there is in host memory: pauses go on without."""
        for pause in list(self.table):
            self.contexts.stop_prefetch(pause.copy)
            if self._may_release(pause):
                self.release(pause, HoldEnding.CANCELLED)
            if host_copies:
                self.contexts.drop(pause.copy)


def _disposition_after(action: Action, pause: Pause) -> Disposition:
    match action:
        case Keep() | CopyAhead() | Prefetch():
            return Disposition.PRESERVE
        case CopyOut():
            return Disposition.SWAP
        case Drop() | Expire():
            return Disposition.DISCARD
        case DropCopy():
            held = pause.hold is not None
            return Disposition.PRESERVE if held else pause.disposition or Disposition.PRESERVE
        case _:
            assert_never(action)
