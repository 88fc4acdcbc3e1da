"""vLLM's scheduler with pauses.

`InterceptScheduler` changes five things in vLLM's `AsyncScheduler`, and nothing for requests
that never pause:

1. A resumable request whose turn stops is *parked* outside of vLLM's queues. It keeps every
   token, its blocks (softly) and its arrival time, and takes no slot of the model runner.
2. Tokens that arrive while it generates end its turn at the next sampled token and are
   prefilled in the following step (an interrupt).
3. A finished request that will be continued by its client is kept as a pause; the request
   that continues the same tokens claims it.
4. An allocation that fails asks the policy which holds to break, and is tried again.
5. While anything pauses, requests queue, run and are preempted by the policy's order.

The CML frames of a session (`SessionFrames`) end its turns too, and say where 2 may happen.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.request_queue import SchedulingPolicy
from vllm.v1.engine import EngineCoreEventType, EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus, StreamingUpdate
from vllm.version import __version__ as vllm_version

from caesura.engine.config import CaesuraConfig
from caesura.engine.connector import add_own_stats, own_connector, transfers_of
from caesura.engine.copies.contexts import HostContexts
from caesura.engine.guard import Aside
from caesura.engine.metrics import PauseMetrics
from caesura.engine.model.frames import SessionFrames, TokenTexts
from caesura.engine.model.stop_strings import stop_strings
from caesura.engine.model.tool_names import tool_names
from caesura.engine.model.turn_grammars import begin_turn as begin_grammar_of_turn
from caesura.engine.pauses.allocation import ReclaimingAllocator
from caesura.engine.pauses.books import check_books
from caesura.engine.pauses.continuations import Continuations
from caesura.engine.pauses.demands import Demands
from caesura.engine.pauses.displacing import Displacing
from caesura.engine.pauses.failed_loads import hide_failed_loads, hide_uncomputed, take_back
from caesura.engine.pauses.keeper import PauseKeeper
from caesura.engine.pauses.own_time import OwnTime, Part
from caesura.engine.pauses.parking import Parking, SessionState
from caesura.engine.pauses.pause import RecomputeCause
from caesura.engine.pauses.promotions import Promotions
from caesura.engine.pauses.ranks import RankedQueue, SessionRanks, admitted_ids, move_to_rank
from caesura.engine.pauses.steps import InterruptSteps, Steps
from caesura.engine.pauses.tables import block_tables
from caesura.engine.pauses.turns import Turns, append_tokens, stop_turn
from caesura.engine.pauses.waste import WasteMeter
from caesura.engine.protocol import INTERRUPTED
from caesura.engine.seams import SeamedScheduler
from caesura.engine.serving.notifications import take_notifications
from caesura.engine.support import check_supported
from caesura.engine.tracing.recorder import NO_TRACE, Trace, trace_engine
from caesura.engine.versions import require_tested_vllm
from caesura.logs import configure_engine_logging
from caesura.policy import make_policy
from caesura.processes import end_engine_with_parent

Found = TypeVar("Found")


class InterceptScheduler(SeamedScheduler):
    """vLLM's scheduler in which a tool call is a pause, not the end of a request.

    Attributes:
        clock: monotonic seconds; replaced before the first request if time is virtual.
    """

    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        configure_engine_logging()
        end_engine_with_parent()
        require_tested_vllm(vllm_version)
        super().__init__(*args, **kwargs)
        config = CaesuraConfig.from_vllm(self.vllm_config)
        check_supported(
            self.vllm_config, self.kv_cache_config, self.block_size, self.hash_block_size
        )
        # A host copy that cannot be loaded costs a recompute, never the request.
        self.recompute_kv_load_failures = True
        self.config = config
        connector = own_connector(self.connector)
        self._connected = connector is not None
        self._copies_overlap = connector is not None and not connector.loads_in_step
        self.metrics = PauseMetrics()
        self.own_time = OwnTime(self.metrics)
        pool = self.kv_cache_manager.block_pool
        transfers = transfers_of(self.kv_cache_manager, connector)
        contexts = HostContexts(transfers, self.block_size, self.metrics)
        self.waste = WasteMeter(self, self.metrics, self.clock, lambda: transfers.loading_blocks)
        self.parking = Parking(self)
        self.keeper = PauseKeeper(
            policy=make_policy(config.policy, config.policy_options),
            config=config,
            scheduler=self,
            parking=self.parking,
            contexts=contexts,
            tables=block_tables(self.kv_cache_manager, transfers.groups),
            metrics=self.metrics,
            waste=self.waste,
            clock=self.clock,
        )
        if self._copies_overlap:
            costs = self.keeper.snapshots.costs
            transfers.forward_seconds = lambda tokens: costs().forward_seconds(tokens)
        self.trace: Trace = NO_TRACE
        if config.trace:
            self.trace = trace_engine(self, self.keeper, config.policy, self.clock, config.trace)
        self.ranks = SessionRanks(
            self.keeper.policy.order, self._pauses_in_use, self.clock, self.keeper.turn_of
        )
        model = self.vllm_config.model_config
        tools = tool_names(model, config.tool_call_parser)
        self.continuations = Continuations(
            self.keeper,
            self.ranks,
            config.keep_contexts,
            None if tools is None else self._named(tools.called, []),
            self._named(stop_strings(model), False),
        )
        self.frames = SessionFrames(TokenTexts(model))
        self.interrupts = InterruptSteps(self.metrics)
        self.turns = Turns(
            self, self.parking, self.keeper, self.ranks, self.continuations, self.metrics
        )
        self.demands = Demands(self.keeper, pool, self.block_size, self.clock)
        self.displacing = Displacing(
            self, self.keeper, self.demands, self.parking, self.ranks, self.metrics, self.clock
        )
        self.promotions = Promotions(self, self.ranks, self.keeper.snapshots, self.clock)
        self._steps = Steps()
        self._scheduling = False  # contexts that are reset outside of a step are not to be kept
        if self.policy == SchedulingPolicy.FCFS:
            self.waiting = RankedQueue(self.ranks.rank, self.ranks.queued, self.keeper.holds_for)
            self.kv_holding_waiting = RankedQueue(self.ranks.rank, self.ranks.queued)
        ReclaimingAllocator(
            self, self.keeper, self.demands, self.displacing, self.own_time
        ).install()
        take_notifications()

    def _named(self, find: Callable[..., Found], default: Found) -> Callable[..., Found]:
        """What finds something in an output; measured, and without failures."""

        def found(*output: Any) -> Found:
            with self.own_time(Part.NAME):
                return find(*output)

        return self.metrics.guard.wrap(Aside.NAMES, found, default)

    # Arrivals

    def add_request(self, request: Request) -> None:
        """A new request, or more tokens for a session in place."""
        session = self.parking.parked(request.request_id)
        if session is not None:
            self.turns.extend(session, StreamingUpdate.from_request(request))
            return
        if self.parking.is_let_go(request.request_id):
            return  # sent before the client learned of it: it starts again from its transcript
        if request.request_id not in self.requests and not request.resumable:
            self.continuations.claim(request)
        if request.resumable:
            if request.request_id in self.requests:
                self.interrupts.arrived(request.request_id, self.current_step)
            else:
                self.frames.begin_turn(request)
        super().add_request(request)

    def report_progress(
        self,
        request_id: str,
        fraction: float | None,
        remaining_seconds: float | None,
        endpoint: str | None = None,
    ) -> None:
        """How far what a paused session waits for has come; see `Waits.note_progress`."""
        if endpoint is not None:
            self.continuations.name_pause(request_id, endpoint)
        self.keeper.waits.note_progress(request_id, fraction, remaining_seconds)

    def name_next_pause(self, request_id: str, endpoint: str) -> None:
        """What a session will wait for when it pauses next; or does, if it has paused already."""
        if self.parking.parked(request_id) is not None:
            self.continuations.name_pause(request_id, endpoint)
        elif request_id in self.requests:
            self.continuations.name_next(request_id, endpoint)

    # Steps

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """Decide about pauses, then schedule as vLLM does."""
        self._steps.schedule(self.current_step + 1, self.clock())
        with self.own_time(Part.DECIDE):
            self.keeper.holding.settle_copies()
            self.keeper.decide()
        self._scheduling = True
        with self.own_time(Part.DISPLACE):
            self.ranks.renew(self.waiting, self.kv_holding_waiting)
            self.promotions.promote()
            if isinstance(self.waiting, RankedQueue):
                self.waiting.settle()
            self.displacing.displace()
            self.displacing.limit_tokens()
        output = super().schedule(throttle_prefills)
        self._scheduling = False
        with self.own_time(Part.REPORT):
            transfers = self.keeper.contexts.transfers
            self.waste.scheduled(output, transfers.stalled_seconds(not self._copies_overlap))
            self.trace.scheduled(output, self.requests)
        for request_id in admitted_ids(output):
            self.ranks.admitted(self.requests[request_id])
            move_to_rank(self.running, self.requests[request_id], self.ranks.rank)
        self.parking.requeue_released()
        return output

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        """Take the step's results, then park or continue the sessions whose turn stopped."""
        copies = model_runner_output.kv_connector_output
        if copies is not None and copies.invalid_block_ids:
            hide_failed_loads(self.kv_cache_manager, scheduler_output, copies.invalid_block_ids)
        scheduled_seconds = self._steps.take()
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        now = self.clock()
        began = self._steps.end(scheduled_seconds, now)
        self.keeper.timer.observe(scheduler_output.total_num_scheduled_tokens, now - began)
        with self.own_time(Part.REPORT):
            self.waste.iterated(began, now)
        with self.own_time(Part.SETTLE):
            self.turns.settle(outputs)
            self.keeper.returns.attach_early(outputs, self.requests)
            self.keeper.holding.settle_copies()
        with self.own_time(Part.REPORT):
            with self.metrics.guard(Aside.STATISTICS):
                self._publish_metrics(outputs)
            self.trace.iterated(began, now)
        self.own_time.end_step()
        if self.config.check_integrity and not self.requests:
            self.check_idle()
        return outputs

    def check_idle(self) -> None:
        """Check all books when no request is left (integrity check).

        Raises:
            AssertionError: something leaked; the message says what.
        """
        check_books(
            self,
            self.keeper.table,
            self.keeper.contexts,
            {
                "parked sessions": self.parking,
                "ranks": self.ranks,
                "demands": self.demands,
                "watches of frames": self.frames,
                "interrupts": self.interrupts,
                "continuations": self.continuations,
                "reports": self.keeper.returns,
                "tokens computed before": self.waste,
            },
        )

    def _update_request_with_output(
        self, request: Request, new_token_ids: list[int], is_stale: bool = False
    ) -> tuple[list[int], bool]:
        interrupt_waits = bool(request.streaming_queue) and self._may_interrupt(request)
        if not request.streaming_queue:
            self.interrupts.seen(request.request_id, self._steps.taken)
        if request.request_id in self.frames:
            return self._update_framed(request, new_token_ids, is_stale, interrupt_waits)
        new_token_ids, stopped = super()._update_request_with_output(
            request, new_token_ids, is_stale
        )
        if not stopped and interrupt_waits:
            # Appended tokens end the turn here; they are prefilled in the next step.
            stop_turn(request, INTERRUPTED)
            stopped = True
        return new_token_ids, stopped

    def _update_framed(
        self, request: Request, new_token_ids: list[int], is_stale: bool, interrupt_waits: bool
    ) -> tuple[list[int], bool]:
        """The same for a session with frames: its turn may end before a sampled token."""
        end = self.frames.watch(request.request_id, new_token_ids, interrupt_waits=interrupt_waits)
        kept = new_token_ids if end is None else new_token_ids[: end.kept]
        kept, stopped = super()._update_request_with_output(request, kept, is_stale)
        if end is None or len(kept) < end.kept or (stopped and end.discards):
            return kept, stopped  # a limit or a stop token may have come first
        if end.discards:
            if not is_stale:
                # The place of the token that is cut off was computed up to, and is free again:
                # it counts as received, and all tokens of the session as computed.
                request.num_output_placeholders -= 1
            super()._update_request_with_output(request, [], is_stale)
        stop_turn(request, end.stop_reason)
        return kept, True

    @staticmethod
    def _may_interrupt(request: Request) -> bool:
        """A sampled token of a running request is a safe position; a preempted one waits."""
        assert request.streaming_queue
        return request.status == RequestStatus.RUNNING and request.streaming_queue[0] is not None

    def _handle_stopped_request(self, request: Request) -> bool:
        """A turn stopped: True when the request is finished, False when its session goes on.

        The session is settled after the step (`Turns.settle`): vLLM still takes it out of
        its queues, which would remove it again if it were queued here.
        """
        if not request.resumable:
            return True
        if request.streaming_queue and request.streaming_queue[0] is None:
            return True
        self.turns.stop(request)
        return False

    def is_settled_later(self, request: Request) -> bool:
        """A session whose turn stopped in this step; see `Turns.settle`."""
        return self.parking.state(request.request_id) is SessionState.STOPPED

    def _update_request_as_session(self, session: Request, update: StreamingUpdate) -> None:
        """Begin a session's next turn."""
        append_tokens(session, update)
        self.frames.begin_turn(session)
        if not begin_grammar_of_turn(session, self.structured_output_manager):
            self.fail_grammar(session)
        if self.log_stats:
            session.record_event(EngineCoreEventType.QUEUED)

    # Preemption and failed loads: nothing that was not computed may be found by its hash

    def _preempt_request(
        self, request: Request, timestamp: float, drop_stale_output: bool = False
    ) -> None:
        """As vLLM's, but what is computed may be copied out before it is overwritten, and what
        this very step was to compute is found by nobody."""
        hide_uncomputed(self.kv_cache_manager, request)
        if self._scheduling and self._pauses_in_use(request):
            self.keeper.holding.save_preempted(request)
        computed = request.num_computed_tokens - request.num_output_placeholders
        self.waste.had(request.request_id, computed, RecomputeCause.PREEMPTED)
        self.ranks.preempted(request)
        super()._preempt_request(request, timestamp, drop_stale_output)

    def _pauses_in_use(self, request: Request) -> bool:
        """Whether anything pauses here; else vLLM's own path is taken, step for step."""
        returned = request.request_id in self.ranks
        return returned or request.resumable or len(self.keeper.table) > 0

    def _handle_invalid_blocks(
        self, invalid_block_ids: set[int], num_scheduled_tokens: dict[str, int]
    ) -> set[str]:
        """Loads failed: take back the step of every running request that read them."""
        failed = super()._handle_invalid_blocks(invalid_block_ids, num_scheduled_tokens)
        requests = [self.requests[request_id] for request_id in failed]
        take_back(self.kv_cache_manager, requests, invalid_block_ids, self.block_size)
        return failed

    # Ends

    def finish_requests(
        self, request_ids: str | Iterable[str] | None, finished_status: RequestStatus
    ) -> list[Request]:
        """Abort or close at any moment: running, waiting, parked or returning."""
        if isinstance(request_ids, str):
            request_ids = (request_ids,)
        ids = list(self.requests if request_ids is None else request_ids)
        for request_id in ids:
            was_parked = self.parking.end(request_id)
            pause = self.keeper.table.claimed_by(request_id)
            if pause is None and was_parked:
                pause = self.keeper.table.get(request_id)
            if pause is not None:
                self.keeper.cancel(pause)
        return super().finish_requests(ids, finished_status)

    def _free_request(
        self, request: Request, delay_free_blocks: bool = False
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        endpoint = self.continuations.endpoint_at_end(request)
        if endpoint is not None:
            computed = request.num_computed_tokens - request.num_output_placeholders
            self.keeper.begin(
                request, endpoint, computed, self.ranks.service(request), in_place=False
            )
        with self.metrics.guard(Aside.LEARNING):
            self.ranks.gone(request, paused=endpoint is not None)
        self.waste.forget(request.request_id)
        self.continuations.discard(request.request_id)
        self.frames.forget(request.request_id)
        self.interrupts.forget(request.request_id)
        self.demands.forget(request.request_id)
        kv_params, ec_params = super()._free_request(request, delay_free_blocks)
        return self.keeper.returns.attach(request, kv_params), ec_params

    def reset_prefix_cache(
        self, reset_running_requests: bool = False, reset_connector: bool = False
    ) -> bool:
        """Forget all cached contexts, of paused sessions too, and host copies whether they are
        asked for or not: they are found by the same hashes."""
        self.trace.write()
        self.keeper.forget_contexts()
        self.waste.restart()
        if reset_running_requests and not self.displacing.release_all_waiting():
            return False
        reset_connector |= self._connected
        return super().reset_prefix_cache(reset_running_requests, reset_connector)

    def shutdown(self) -> None:
        """As vLLM's; a trace is written."""
        self.trace.write()
        super().shutdown()

    # Parked sessions in vLLM's books

    def has_finished_requests(self) -> bool:
        """Whether a step has something to do though nothing waits or runs.

        vLLM takes requests outside of its queues for finished ones; parked ones are not.
        """
        if self.keeper.has_work():
            return True
        if self.finished_req_ids or self.grammar_compile_error_reqs:
            return True
        if self.parking.in_state(SessionState.FULL):
            return True
        if self.connector is None:
            return False
        num_running, num_waiting = self.get_request_counts()
        return len(self.requests) - self.parking.num_parked() > num_running + num_waiting

    def _publish_metrics(self, outputs: dict[int, EngineCoreOutputs]) -> None:
        """Send this step's counts with vLLM's stats, after the sessions were settled."""
        stats = next((out.scheduler_stats for out in outputs.values() if out.scheduler_stats), None)
        if stats is None or not self._connected:
            return
        idle = not self.running and not self.waiting and not self.kv_holding_waiting
        self.keeper.gauges.read(idle=idle)
        self.keeper.contexts.count_copies()
        pause_stats = self.metrics.take()
        if pause_stats is not None:
            add_own_stats(stats, self.connector, pause_stats)
