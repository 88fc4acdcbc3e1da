"""The keeper of pauses: begins, decides about, claims and ends them.

It owns the pause table, asks the policy, and has plans carried out by `Holding`. It knows nothing
of queues or steps: those are the scheduler's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

from caesura.engine.config import CaesuraConfig
from caesura.engine.copies.contexts import HostContexts
from caesura.engine.guard import Aside
from caesura.engine.metrics import PauseMetrics
from caesura.engine.pauses.costs import StepTimer, profiled_costs
from caesura.engine.pauses.holding import Holding
from caesura.engine.pauses.parking import Parking
from caesura.engine.pauses.pause import (
    NO_PAUSE_LISTENER,
    HoldEnding,
    Pause,
    PauseEnding,
    PauseListener,
)
from caesura.engine.pauses.returns import Returns
from caesura.engine.pauses.snapshots import Gauges, Snapshots
from caesura.engine.pauses.table import PauseTable
from caesura.engine.pauses.tables import BlockTables
from caesura.engine.pauses.waits import Waits
from caesura.engine.pauses.waste import WasteMeter
from caesura.engine.protocol import keep_seconds_of, owner_of
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
    Turn,
)

LASTING_PER_OWNER = 64
"""Contexts of one owner that are kept for a time that was asked for; more are kept as others."""


@dataclass(eq=False)
class PauseKeeper:
    """Pauses of one engine."""

    policy: Policy
    config: CaesuraConfig
    scheduler: Scheduler
    parking: Parking
    contexts: HostContexts
    tables: BlockTables
    metrics: PauseMetrics
    waste: WasteMeter
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        table, policy, contexts, metrics = PauseTable(), self.policy, self.contexts, self.metrics
        self.table = table
        self.timer = StepTimer(profiled_costs(self.config.profile))
        self.waits = Waits(table, policy, metrics, self.clock)
        self.returns = Returns(policy.name)
        snapshots = Snapshots(self.scheduler, table, contexts, self.timer, self.clock)
        self.snapshots = snapshots
        self.holding = Holding(
            table,
            policy,
            snapshots,
            self.scheduler,
            self.parking,
            contexts,
            self.tables,
            metrics,
            self.waste,
        )
        self.gauges = Gauges(
            table, contexts, snapshots, self.holding.saves_contexts, metrics, self.waste, self.clock
        )
        self.listener: PauseListener = NO_PAUSE_LISTENER
        self._block_size: int = self.scheduler.block_size
        self._hashed_tokens: int = self.scheduler.hash_block_size
        self._review_seconds: float | None = None

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
        self.contexts.describe(request)
        hashes = list(request.block_hashes[: computed_tokens // self._hashed_tokens])
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
            hashed_tokens=self._hashed_tokens,
            groups=self.contexts.transfers.groups,
            copy=self.contexts.enter(request.request_id, hashes),
            session_id=request.session_id,
            owner=owner_of(request),
            request=request if in_place else None,
            keep_until_seconds=self._keep_until(request),
        )
        self.holding.begin(pause, request)
        self.table.add(pause)
        self.waits.begin(pause)
        self.listener.pause_began(pause)
        self._forget_surplus()
        return pause

    def _keep_until(self, request: Request) -> float | None:
        """Until when a client has asked that its context be kept, if it may ask for that."""
        seconds = keep_seconds_of(request)
        if seconds is None or self.table.lasting_of(owner_of(request)) >= LASTING_PER_OWNER:
            return None
        return self.clock() + seconds

    def turn_of(self, request: Request) -> Turn:
        """What a request's turn takes: its context, and what restoring that takes."""
        pause = self.table.claimed_by(request.request_id)
        held = swapped = 0
        if pause is not None:
            held, swapped = pause.held_tokens, pause.loadable_tokens - pause.held_tokens
        there = request.num_computed_tokens if pause is None else held + swapped
        missing = max(0, request.num_tokens - there)
        costs = self.snapshots.costs()
        iterations = costs.seconds_per_token * missing / max(costs.seconds_per_iteration, 1e-9)
        return Turn(request.num_tokens, iterations, held, swapped)

    def holds_for(self, request: Request) -> bool:
        """Whether the paused context that a request continues holds device memory."""
        pause = self.table.claimed_by(request.request_id)
        return pause is not None and pause.hold is not None

    # Decisions

    def decide(self) -> None:
        """Ask the policy if something is undecided, new or due for a review; act on its plan."""
        now = self.clock()
        with self.metrics.guard(Aside.LEARNING):
            self.waits.presumptions.review()
        due = self._review_seconds is not None and now >= self._review_seconds
        due = self.waits.take_changed() or due
        if not due and not self.table.has_undecided():
            return
        for pause in self.table.undecided():
            if pause.keep_until_seconds is not None:
                self.holding.copy_out(pause)  # whatever happens to it on the device
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
        return self.table.has_undecided() or self.holding.has_postponed or reported

    def act(self, action: Action, ending: HoldEnding) -> bool:
        """Carry out a decision; False when it has to wait for an iteration in flight."""
        pause = self.table.get(action.pause_id)
        if pause is None:
            return True
        drops = isinstance(action, (Drop, Expire))
        if drops and pause.hold is not None and not self.holding.may_release(pause):
            return False
        disposition = _disposition_after(action, pause)
        if pause.disposition != disposition:
            self.metrics.count("dispositions", labels=(pause.endpoint, disposition))
            self.listener.decided(pause, action, disposition)
        self.table.decided(pause, disposition)
        match action:
            case Keep():
                pass
            case CopyAhead():
                self.holding.copy_out(pause)
            case Prefetch():
                self.holding.prefetch(pause)
            case CopyOut():
                self.holding.copy_out(pause)
                self.contexts.stop_prefetch(pause.copy)
            case Drop():
                self.holding.release(pause, ending, action.keep_tokens, action.forget)
            case Expire():
                self.holding.release(pause, HoldEnding.EXPIRED)
            case DropCopy():
                if disposition is not Disposition.PRESERVE:
                    self.contexts.stop_prefetch(pause.copy)
                self.contexts.drop(pause.copy)
            case _:
                assert_never(action)
        return True

    # Ends

    def resumed(self, pause: Pause, local_tokens: int, loaded_tokens: int) -> None:
        """A session is scheduled again, with this much of its context found or loaded."""
        found = min(local_tokens, pause.context_tokens)
        loaded = min(loaded_tokens, pause.context_tokens - found)
        self.metrics.count("held_tokens", found)
        self.metrics.count("loaded_tokens", loaded)
        if pause.claimed_by is not None:
            cause = pause.recompute_cause(pause.context_tokens - found - loaded)
            self.waste.had(pause.claimed_by, pause.context_tokens, cause)
        self.contexts.found(pause.copy, found)
        self.listener.resumed(pause, found, loaded)
        self.returns.note(pause, found, loaded)
        self.waits.resumed(pause)
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
            same = pause.common_blocks(request.block_hashes)
            usable_tokens = min(same * self._hashed_tokens, request.num_tokens - 1)
            if usable_tokens < pause.held_tokens:
                self.holding.release(pause, HoldEnding.RESUMED, usable_tokens)

    def cancel(self, pause: Pause) -> None:
        """A paused or returning session was closed or aborted."""
        self._end(pause, PauseEnding.CANCELLED, HoldEnding.CANCELLED)

    def _forget_surplus(self) -> None:
        """Forget pauses that are too many, and finished requests' that are too old."""
        now = self.clock()
        too_old = now - self.config.forget_after_seconds
        surplus = len(self.table) - self.config.max_pauses
        for pause in self.table.oldest_first(max(surplus, 0), too_old):
            if pause.returning or (surplus <= 0 and pause.lasts(now)):
                continue
            if pause.request is None:
                self._forget(pause)
            elif surplus > 0:
                self._forget(pause)
                self.parking.let_go(pause.request)
            surplus -= 1

    def _forget(self, pause: Pause) -> None:
        """A context is given up: its blocks stay in the prefix cache only."""
        self._end(pause, PauseEnding.FORGOTTEN, HoldEnding.CANCELLED)

    def _end(self, pause: Pause, ending: PauseEnding, hold_ending: HoldEnding) -> None:
        gone = ending is not PauseEnding.RESUMED
        if not pause.returning:
            self.waits.given_up(pause)
        self.holding.end(pause, hold_ending)
        self.contexts.end(pause.copy, forget=gone)
        self.table.remove(pause)
        self.listener.pause_ended(pause, ending)
        self.waits.end(pause, ending)

    def forget_contexts(self) -> None:
        """Break every hold, and drop what there is in host memory: pauses go on without."""
        for pause in list(self.table):
            self.contexts.stop_prefetch(pause.copy)
            if self.holding.may_release(pause):
                self.holding.release(pause, HoldEnding.CANCELLED)
            self.contexts.drop(pause.copy)


def _disposition_after(action: Action, pause: Pause) -> Disposition:
    match action:
        case Keep() | CopyAhead() | Prefetch():
            return Disposition.PRESERVE
        case CopyOut():
            return Disposition.SWAP
        case Drop() if pause.disposition is Disposition.SWAP and action.keep_tokens > 0:
            return Disposition.SWAP  # the front, which is left, is still to leave the device
        case Drop() | Expire():
            return Disposition.DISCARD
        case DropCopy():
            held = pause.hold is not None
            return Disposition.PRESERVE if held else pause.disposition or Disposition.PRESERVE
        case _:
            assert_never(action)
