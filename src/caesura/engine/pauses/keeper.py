"""The keeper of pauses: begins, decides, claims, releases and ends them.

It owns the pause table and every hold, asks the policy, and carries plans out. It knows the
block pool and the host copies, and nothing of queues or steps: those are the scheduler's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import takewhile

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.request import Request

from caesura.engine.config import CaesuraConfig
from caesura.engine.copies.prefetches import Prefetch, PrefetchEnding
from caesura.engine.copies.transfers import Transfers
from caesura.engine.metrics import PauseMetrics
from caesura.engine.pauses.costs import StepTimer, profiled_costs
from caesura.engine.pauses.holds import (
    OwnBlocks,
    References,
    forget_blocks,
    full_blocks,
    sole_blocks,
)
from caesura.engine.pauses.listener import NO_PAUSE_LISTENER, PauseListener
from caesura.engine.pauses.returns import Returns
from caesura.engine.pauses.table import HoldEnding, Pause, PauseEnding, PauseTable
from caesura.engine.protocol import owner_of
from caesura.policy import (
    Action,
    CostModel,
    Demand,
    Disposition,
    Load,
    Memory,
    Policy,
    Service,
    Snapshot,
)
from caesura.policy.duration import Progress


@dataclass(frozen=True, slots=True)
class ParkedSessions:
    """What the keeper needs of the scheduler for sessions that are parked in place.

    Attributes:
        can_free: whether no iteration in flight may still write the session's blocks.
        free: give the session's own blocks back and reset its computed tokens.
        detach: end the engine request of a session that there is no room to remember.
    """

    can_free: Callable[[Request], bool]
    free: Callable[[Request], None]
    detach: Callable[[Request], None]


@dataclass(slots=True)
class _UnmetDemand:
    """A request lacks blocks that no hold gives up for it.

    Attributes:
        since_seconds: when it first did.
        retry_seconds: when holds are looked at again.
        missing_blocks: how many it lacked the last time.
    """

    since_seconds: float
    retry_seconds: float
    missing_blocks: int = 0


class PauseKeeper:
    """Pauses of one engine.

    Args:
        policy: decides.
        config: limits.
        kv_cache_manager: vLLM's, for blocks and references.
        parked: frees the blocks of sessions in place.
        transfers: host copies; None without host memory.
        metrics: counts.
        load: what the engine does and what waits for it.
        clock: monotonic seconds.
    """

    RETRY_SECONDS = 0.01

    def __init__(
        self,
        policy: Policy,
        config: CaesuraConfig,
        kv_cache_manager: KVCacheManager,
        block_size: int,
        parked: ParkedSessions,
        transfers: Transfers | None,
        metrics: PauseMetrics,
        load: Callable[[], Load],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.table = PauseTable()
        self.timer = StepTimer(profiled_costs(config.profile))
        self.policy = policy
        self.returns = Returns(policy.name)
        self.clock = clock
        self._config = config
        self._kv_cache_manager = kv_cache_manager
        self._pool: BlockPool = kv_cache_manager.block_pool
        self._block_size = block_size
        self._parked = parked
        self.transfers = transfers
        self.listener: PauseListener = NO_PAUSE_LISTENER
        self._metrics = metrics
        self._load = load
        self._review_seconds: float | None = None
        self._postponed: set[str] = set()  # copied, but an iteration in flight may write yet
        self._progress_noted = False  # since the last decision
        self._counted_copies = 0
        self._unmet: dict[str, _UnmetDemand] = {}  # by request

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
        pause = Pause(
            id=request.request_id,
            endpoint=endpoint,
            service=service,
            paused_seconds=self.clock(),
            context_tokens=computed_tokens,
            total_tokens=request.num_tokens,
            prompt_tokens=request.num_prompt_tokens,
            block_hashes=list(request.block_hashes[: computed_tokens // self._block_size]),
            block_size=self._block_size,
            session_id=request.session_id,
            owner=owner_of(request),
            request=request if in_place else None,
            predicted_seconds=self.policy.expected_seconds(endpoint),
        )
        if in_place and blocks:
            pause.hold = OwnBlocks(blocks, computed_tokens)
        elif full:
            pause.hold = References(self._pool, full, self._block_size)
        self.table.add(pause)
        self._metrics.count("pauses", labels=(endpoint,))
        self.listener.pause_began(pause)
        self._forget_surplus()
        return pause

    def name_endpoint(self, pause_id: str, endpoint: str) -> None:
        """Say what a session waits for that paused without saying so, or for something else.

        Its duration is predicted, learned and counted under that name from now on. Ignored when
        the pause is over, or the session returns already.
        """
        pause = self.table.get(pause_id)
        if pause is None or pause.returning:
            return
        pause.endpoint = endpoint
        pause.predicted_seconds = self.policy.expected_seconds(endpoint)
        self._progress_noted = True

    def note_progress(
        self, pause_id: str, fraction: float | None, remaining_seconds: float | None
    ) -> None:
        """What a session waits for has come so far: the share that is done, or the time left.

        Ignored when the pause is over, or the session returns already.
        """
        pause = self.table.get(pause_id)
        if pause is None or pause.returning or (fraction is None and remaining_seconds is None):
            return
        elapsed = self.clock() - pause.paused_seconds
        if remaining_seconds is not None:
            pause.progress = Progress.from_remaining(elapsed, remaining_seconds)
        elif fraction is not None:
            pause.progress = Progress.from_fraction(elapsed, fraction)
        self._metrics.count("progress_reports", labels=(pause.endpoint,))
        self._progress_noted = True

    # Decisions

    def decide(self) -> None:
        """Ask the policy if something is undecided, new or due for a review; act on its plan."""
        now = self.clock()
        due = self._review_seconds is not None and now >= self._review_seconds
        due, self._progress_noted = due or self._progress_noted, False
        if not due and not self.table.has_undecided():
            return
        plan = self.policy.plan(self.snapshot())
        self._review_seconds = plan.review_seconds
        later = set()
        for action in plan.actions:
            ending = HoldEnding.EXPIRED if action.expired else HoldEnding.DECIDED
            if not self._act(action, ending):
                later.add(action.pause_id)
        if later:
            self._review_seconds = now  # ask again when the iteration in flight is over
        for pause in self.table.undecided():
            if pause.id not in later:
                self.table.decided(pause, Disposition.PRESERVE)

    def has_work(self) -> bool:
        """Whether a step of the engine would do something for a pause, though nothing runs."""
        # Without host memory there is nothing that a report of progress could bring about.
        reported = self._progress_noted and self.transfers is not None
        return self.table.has_undecided() or bool(self._postponed) or reported

    def snapshot(self, demand: Demand | None = None) -> Snapshot:
        """What the policy decides from."""
        device = Memory(
            total_tokens=(self._pool.num_gpu_blocks - 1) * self._block_size,
            free_tokens=self._pool.get_num_free_blocks() * self._block_size,
        )
        host = Memory(0, 0)
        if self.transfers is not None:
            pool = self.transfers.host
            host = Memory(
                pool.num_slots * self._block_size, pool.available_slots * self._block_size
            )
        return Snapshot(self.clock(), self.table, device, host, self.costs(), self._load(), demand)

    def costs(self) -> CostModel:
        """What computing and copying cost, as measured so far."""
        costs = self.timer.costs()
        per_block = self.transfers.seconds_per_block if self.transfers is not None else None
        if per_block is None:
            return costs
        return replace(
            costs, seconds_per_copied_token=per_block / self._block_size, link_measured=True
        )

    def reclaim(self, request: Request, missing_blocks: int, *, running: bool, idle: bool) -> bool:
        """A request lacks blocks: break holds as the policy ranks them.

        Returns:
            Whether enough was freed to try again. The demand lasts until `forget_demand`.
        """
        now = self.clock()
        wanted = self._pool.get_num_free_blocks() + missing_blocks
        if self.transfers is not None:
            self.transfers.prefetches.cut_all_short()
            if self._pool.get_num_free_blocks() >= wanted:
                return True
        unmet = self._unmet.get(request.request_id)
        if unmet is None:
            unmet = self._unmet[request.request_id] = _UnmetDemand(now, now)
        if now < unmet.retry_seconds and not running:
            return False
        demand = Demand(
            request_id=request.request_id,
            tokens=missing_blocks * self._block_size,
            running=running,
            arrival_seconds=request.arrival_time,
            waited_seconds=now - unmet.since_seconds,
            engine_idle=idle,
        )
        own = self.table.claimed_by(request.request_id)
        own_action = None
        for action in self.policy.plan(self.snapshot(demand)).actions:
            if own is not None and action.pause_id == own.id:
                own_action = action
                continue
            self._act(action, HoldEnding.RELEASED)
            if self._pool.get_num_free_blocks() >= wanted:
                return True
        if own_action is not None and own is not None and isinstance(own.hold, References):
            # Everything else is gone. The hold may be on blocks that the prefix cache has twice,
            # and gives the request the other ones: it must not wait for its own hold.
            self._act(own_action, HoldEnding.RELEASED)
            return True
        unmet.retry_seconds = now + self.RETRY_SECONDS
        unmet.missing_blocks = wanted - self._pool.get_num_free_blocks()
        return False

    def missing_blocks(self, request_id: str) -> int:
        """Blocks that a waiting request lacked when it was last tried and got none."""
        unmet = self._unmet.get(request_id)
        return unmet.missing_blocks if unmet is not None else 0

    def freeable_blocks(self, request: Request) -> int:
        """Blocks that nobody else has: what preempting the request would free."""
        blocks = self._kv_cache_manager.get_blocks(request.request_id).blocks[0]
        return len(sole_blocks(list(blocks)))

    def _act(self, action: Action, ending: HoldEnding) -> bool:
        """Carry out a decision; False when it has to wait for an iteration in flight."""
        pause = self.table.get(action.pause_id)
        if pause is None:
            return True
        discard = action.disposition is Disposition.DISCARD
        if discard and pause.hold is not None and not self._may_release(pause):
            return False
        if pause.disposition != action.disposition:
            self._metrics.count("dispositions", labels=(pause.endpoint, action.disposition))
            self.listener.decided(pause, action)
        self.table.decided(pause, action.disposition)
        if discard:
            self.release(pause, ending, action.keep_tokens, action.forget)
        elif action.disposition is Disposition.SWAP or action.copy:
            self._copy_out(pause)
        if action.prefetch and action.disposition is Disposition.PRESERVE:
            self._prefetch(pause)
        elif action.disposition is Disposition.SWAP:
            self._stop_prefetch(pause)
        if action.drop_copy:
            self._drop_copy(pause)
        return True

    def _may_release(self, pause: Pause) -> bool:
        if isinstance(pause.hold, OwnBlocks):
            assert pause.request is not None
            return self._parked.can_free(pause.request)
        return pause.hold is not None

    # Holds

    def release(
        self, pause: Pause, ending: HoldEnding, keep_tokens: int = 0, forget: bool = False
    ) -> None:
        """Break a hold, or only its tail: the leading `keep_tokens` stay held."""
        self._stop_prefetch(pause)
        hold = pause.hold
        if hold is None:
            return
        blocks = list(hold.blocks())
        keep_blocks = min(keep_tokens // self._block_size, len(full_blocks(blocks)))
        if self.transfers is not None:
            self.transfers.stop_copying(pause.id, keep_blocks)
            if ending is HoldEnding.RELEASED and self.saves_contexts():
                dropped = full_blocks(blocks[keep_blocks:])
                self._make_host_room(len(dropped), pause)
                self.transfers.save(pause.id, dropped, pause.block_hashes[keep_blocks:])
                pause.saved_blocks = self.transfers.saved_blocks(pause.id)
        if isinstance(hold, OwnBlocks):
            assert pause.request is not None
            front = References(self._pool, blocks[:keep_blocks], self._block_size)
            self._parked.free(pause.request)
            pause.hold = front if keep_blocks else None
        else:
            assert isinstance(hold, References)
            hold.trim(keep_blocks)
            pause.hold = hold if keep_blocks else None
        while pause.prefetched and pause.prefetched[-1] >= keep_blocks:
            pause.prefetched.pop()
            self._metrics.count("prefetches", labels=(PrefetchEnding.WASTED,))
        self.listener.hold_broken(pause, ending, (len(blocks) - keep_blocks) * self._block_size)
        if forget:
            forget_blocks(self._pool, blocks[keep_blocks:])
        if pause.hold is None:
            self._metrics.count("hold_endings", labels=(ending,))

    def _copy_out(self, pause: Pause) -> None:
        """Start copying a held context to host memory; without any, the hold stays."""
        if self.transfers is None or pause.hold is None or pause.returning:
            return
        full = full_blocks(pause.hold.blocks())
        if full and self.transfers.progress(pause.id) is None:
            self.transfers.copy_out(pause.id, full, pause.block_hashes)
            pause.copy_requested = True
        self._settle_copy(pause)

    def settle_copies(self) -> None:
        """Release the device blocks of contexts whose copies are complete, and hold what was
        loaded."""
        if self.transfers is None:
            return
        for prefetch in self.transfers.prefetches.take_finished():
            self._take_prefetched(prefetch)
        for pause_id in self.transfers.take_progressed() | self._postponed:
            self._postponed.discard(pause_id)
            pause = self.table.get(pause_id)
            if pause is not None:
                self._settle_copy(pause)

    def _settle_copy(self, pause: Pause) -> None:
        assert self.transfers is not None
        progress = self.transfers.progress(pause.id)
        if progress is None:
            return
        pause.copied_blocks = progress.copied_blocks
        if not progress.complete or pause.hold is None or pause.returning:
            return
        whole = progress.copied_blocks >= len(full_blocks(pause.hold.blocks()))
        if not whole or pause.disposition is not Disposition.SWAP:
            return
        if self._may_release(pause):
            self.release(pause, HoldEnding.COPIED)
        else:
            self._postponed.add(pause.id)

    def _prefetch(self, pause: Pause) -> None:
        """Start to load what the device lacks of a context; without a copy nothing happens."""
        if self.transfers is None or pause.returning or isinstance(pause.hold, OwnBlocks):
            return
        first = pause.held_tokens // self._block_size
        self.transfers.prefetches.start(pause.id, pause.block_hashes, first)

    def _stop_prefetch(self, pause: Pause) -> None:
        if self.transfers is not None and self.transfers.prefetches.stop(pause.id):
            self._metrics.count("prefetches", labels=(PrefetchEnding.WASTED,))

    def _take_prefetched(self, prefetch: Prefetch) -> None:
        """Loads ahead of a session are over: what they brought is held like the rest of the
        context, and can be found."""
        assert self.transfers is not None
        prefetches = self.transfers.prefetches
        pause = self.table.get(prefetch.pause_id)
        assert pause is not None, "the end of a pause stops its prefetch"
        if prefetch.failed:
            pause.load_failed = True
        else:
            prefetches.enter(prefetch, self._block_size)
        blocks = [] if prefetch.failed else full_blocks(prefetch.blocks)
        if blocks:
            if pause.hold is None:
                pause.hold = References(self._pool, blocks, self._block_size)
            else:
                assert isinstance(pause.hold, References)
                assert pause.held_tokens == prefetch.first * self._block_size
                pause.hold.extend(blocks)
            pause.prefetched.append(prefetch.first)
            loaded_tokens = len(prefetch.block_hashes) * self._block_size
            self._metrics.count("prefetched_tokens", loaded_tokens)
            self.listener.prefetched(pause, loaded_tokens)
        else:
            self._metrics.count("prefetches", labels=(PrefetchEnding.WASTED,))
        prefetches.release(prefetch)

    def saves_contexts(self) -> bool:
        """Whether a preempted context is copied out rather than computed again."""
        return self.transfers is not None and self.policy.saves_contexts(self.costs())

    def has_room_to_save(self, blocks: int) -> bool:
        """Whether host memory has room for so many blocks now."""
        return self.transfers is not None and self.transfers.host.available_slots >= blocks

    def save_preempted(self, request: Request) -> None:
        """A running request gives its blocks back: copy what is computed, if that is cheaper
        than computing it again. Called while its blocks are still its own."""
        if not self.saves_contexts():
            return
        assert self.transfers is not None
        blocks = full_blocks(self._kv_cache_manager.get_blocks(request.request_id).blocks[0])
        self._make_host_room(len(blocks), None)
        self.transfers.save(request.request_id, blocks, request.block_hashes)

    def _make_host_room(self, blocks: int, pause: Pause | None) -> None:
        """Give copies up that are worth less than those that are about to be made.

        Args:
            blocks: how many slots are needed.
            pause: whose context they are for; None for a request that waits to go on.
        """
        assert self.transfers is not None
        lacking = blocks - self.transfers.host.available_slots
        if lacking > 0:
            tokens = lacking * self._block_size
            for pause_id in self.policy.copies_given_up(self.snapshot(), tokens, pause):
                other = self.table.get(pause_id)
                if other is not None:
                    self._drop_copy(other)

    def _drop_copy(self, pause: Pause) -> None:
        if self.transfers is not None:
            self.transfers.end_pause(pause.id, forget=True)
            pause.copied_blocks = pause.saved_blocks = 0
            pause.copy_requested = False

    # Ends

    def resumed(self, pause: Pause, local_tokens: int, loaded_tokens: int) -> None:
        """A session is scheduled again, with this much of its context found or loaded."""
        found = min(local_tokens, pause.context_tokens)
        loaded = min(loaded_tokens, pause.context_tokens - found)
        self._metrics.count("held_tokens", found)
        self._metrics.count("loaded_tokens", loaded)
        self._metrics.count("recomputed_tokens", pause.context_tokens - found - loaded)
        for first in pause.prefetched:
            used = found > first * self._block_size
            ending = PrefetchEnding.USED if used else PrefetchEnding.WASTED
            self._metrics.count("prefetches", labels=(ending,))
        pause.prefetched.clear()
        self.listener.resumed(pause, found, loaded)
        self.returns.note(pause, found, loaded)
        self._end(pause, PauseEnding.RESUMED, HoldEnding.RESUMED)

    def claim(self, pause: Pause, request: Request) -> None:
        """The session's tokens have arrived: it returns as this request.

        Of a client's context only what the request still begins with stays held: a client may
        render its history differently, and the last token is computed in any case.
        """
        if self.transfers is not None:
            self.transfers.stop_copying(pause.id)
            self.transfers.prefetches.cut_short(pause.id, awaited_by=request.request_id)
        self.table.claim(pause, request.request_id)
        self.listener.claimed(pause)
        pause.lasted_seconds = self.clock() - pause.paused_seconds
        self._learn(pause.endpoint, pause.lasted_seconds)
        if not pause.in_place and pause.hold is not None:
            pairs = zip(pause.block_hashes, request.block_hashes, strict=False)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            usable_tokens = min(same * self._block_size, request.num_tokens - 1)
            if usable_tokens < pause.held_tokens:
                self.release(pause, HoldEnding.RESUMED, usable_tokens)

    def _learn(self, endpoint: str, paused_seconds: float) -> None:
        """A session has returned: compare with what was expected, then let the policy learn."""
        expected_seconds = self.policy.expected_seconds(endpoint)
        if expected_seconds is not None:
            self._metrics.count("returns", labels=(endpoint,))
            self._metrics.count("predicted_seconds", expected_seconds, labels=(endpoint,))
            self._metrics.count("returned_seconds", paused_seconds, labels=(endpoint,))
        self.policy.ended(endpoint, paused_seconds, returned=True)

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
                self._end(pause, PauseEnding.FORGOTTEN, HoldEnding.CANCELLED)
            elif surplus > 0:
                self._parked.detach(pause.request)
            surplus -= 1

    def forget(self, pause: Pause) -> None:
        """A parked session is detached: its blocks stay in the prefix cache only."""
        self._end(pause, PauseEnding.FORGOTTEN, HoldEnding.CANCELLED)

    def _end(self, pause: Pause, ending: PauseEnding, hold_ending: HoldEnding) -> None:
        gone = ending is not PauseEnding.RESUMED
        if not pause.returning:
            elapsed_seconds = self.clock() - pause.paused_seconds
            self.policy.ended(pause.endpoint, elapsed_seconds, returned=False)
        if isinstance(pause.hold, OwnBlocks):
            # Its request goes on with these blocks, or vLLM frees them with the request.
            self._metrics.count("hold_endings", labels=(hold_ending,))
            pause.hold = None
        else:
            self.release(pause, hold_ending)
        if self.transfers is not None:
            self.transfers.end_pause(pause.id, forget=gone)
        self._unmet.pop(pause.claimed_by or pause.id, None)
        self.table.remove(pause)
        self.listener.pause_ended(pause, ending)
        elapsed = self.clock() - pause.paused_seconds
        self._metrics.count("pause_endings", labels=(pause.endpoint, ending))
        self._metrics.count("paused_seconds", elapsed, labels=(pause.endpoint,))

    def forget_contexts(self, *, host_copies: bool) -> None:
        """Break every hold, and drop what there is in host memory: pauses go on without."""
        for pause in list(self.table):
            self._stop_prefetch(pause)
            if self._may_release(pause):
                self.release(pause, HoldEnding.CANCELLED)
            if host_copies:
                self._drop_copy(pause)

    def held_blocks(self, at_most: int) -> int:
        """Device blocks that holds keep, counted up to a number."""
        held = 0
        for pause in self.table.held_latest_arrival_first():
            held += pause.held_tokens // self._block_size
            if held >= at_most:
                break
        return min(held, at_most)

    def forget_demand(self, request_id: str) -> None:
        """The request no longer lacks blocks, or is gone."""
        self._unmet.pop(request_id, None)

    # Books

    def count_copies(self) -> None:
        """Count the blocks copied out since the last call."""
        if self.transfers is not None:
            copied = self.transfers.copied_blocks_total
            self._metrics.count("copied_tokens", (copied - self._counted_copies) * self._block_size)
            self._counted_copies = copied

    def publish_gauges(self) -> None:
        """Refresh the gauges of the metrics."""
        holding = [pause for pause in self.table if pause.hold is not None]
        copied = [pause for pause in self.table if pause.hold is None and pause.copied_blocks]
        host = self.transfers.host if self.transfers is not None else None
        block_size = self._block_size
        self._metrics.set_gauges(
            {
                "pauses_now": len(self.table),
                "holding_now": len(holding),
                "copied_now": len(copied),
                "held_tokens_now": sum(pause.held_tokens for pause in holding),
                "host_tokens_now": host.used_slots * block_size if host is not None else 0,
                "device_tokens": (self._pool.num_gpu_blocks - 1) * block_size,
                "host_tokens": host.num_slots * block_size if host is not None else 0,
                "returning_now": self.table.returning_count(),
            }
        )

    def check_integrity(self) -> None:
        """Verify that nothing is left of ended pauses; raises AssertionError."""
        if len(self.table) == 0:
            assert self.table.is_empty(), "pause table keeps entries of ended pauses"
            if self.transfers is not None:
                assert not self.transfers.has_copies(), "copies of ended pauses are kept"
                if not self.transfers.pending:
                    assert self.transfers.prefetches.is_empty(), "prefetches of nobody are left"
                    pinned = self.transfers.host.pinned_slots
                    assert pinned == 0, f"{pinned} host slots are pinned by nobody"
