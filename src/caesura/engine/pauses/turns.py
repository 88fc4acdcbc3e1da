"""Turns of sessions in place: how one ends, and how the next begins."""

from dataclasses import dataclass, replace

from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.metrics.stats import PrefillStats
from vllm.v1.request import Request, RequestStatus, StreamingUpdate

from caesura.engine.metrics import PauseMetrics
from caesura.engine.pauses.continuations import Continuations
from caesura.engine.pauses.keeper import PauseKeeper
from caesura.engine.pauses.parking import Parking, SessionState
from caesura.engine.pauses.ranks import SessionRanks
from caesura.engine.protocol import DETACHED, INTERRUPTED

Outputs = dict[int, EngineCoreOutputs]
"""A step's outputs by client."""


@dataclass(slots=True, eq=False)
class Turns:
    """Takes sessions in place from one turn to the next."""

    scheduler: Scheduler
    parking: Parking
    keeper: PauseKeeper
    ranks: SessionRanks
    continuations: Continuations
    metrics: PauseMetrics

    def extend(self, session: Request, update: StreamingUpdate | None) -> None:
        """A parked session gets more tokens, or is closed (None)."""
        if update is None:
            self._close(session)
            return
        pause = self.keeper.table.get(session.request_id)
        assert pause is not None
        self.keeper.claim(pause, session)
        if self.ranks.order is None:
            session.arrival_time = update.arrival_time
        self.ranks.returns(session.request_id, pause)
        self.scheduler._update_request_as_session(session, update)
        self.parking.queue(session)

    def stop(self, session: Request) -> None:
        """A session's turn has stopped. What steps in flight compute for it is void: it goes on
        from what is materialised."""
        session.num_computed_tokens -= session.num_output_placeholders
        assert session.num_computed_tokens >= 0
        session.spec_token_ids = []
        session.drop_stale_output = True
        session.num_stale_output_tokens = session.num_in_flight_tokens
        session.num_output_placeholders = 0
        session.status = RequestStatus.WAITING
        self.parking.stop(session)

    def settle(self, outputs: Outputs) -> None:
        """At the end of a step: go on with sessions whose turn stopped, and let go of those that
        cannot go on. Their clients are told in the step's outputs."""
        for session in self.parking.in_state(SessionState.STOPPED):
            self._settle_stopped(session, outputs)
        for session in self.parking.in_state(SessionState.FULL):
            # A full context ends a turn before its first token, and nothing can follow it here.
            _report_end(outputs, session, FinishReason.LENGTH)
            self.parking.let_go(session)
        for session in self.parking.take_detached():
            _report_end(outputs, session, FinishReason.ABORT, DETACHED)

    def _settle_stopped(self, session: Request, outputs: Outputs) -> None:
        """Go on with the tokens that wait for a session, or park it."""
        if self.scheduler.use_v2_model_runner:
            # Give the model runner's slot back: others may be admitted before the session,
            # and it is sent as a new request then.
            self.scheduler.reset_preempted_req_ids.add(session.request_id)
        appended = 0
        assert session.streaming_queue is not None
        while session.streaming_queue:
            update = session.streaming_queue.popleft()
            if update is None:
                self._close(session)
                _report_end(outputs, session, FinishReason.ABORT)
                return
            self.ranks.turns(session)
            self.scheduler._update_request_as_session(session, update)
            appended += 1
            if appended > 1:
                # Every appended piece ends the turn before it, also one without output.
                _report_end(outputs, session, FinishReason.STOP, INTERRUPTED)
        if appended:
            self.metrics.count("interrupts", appended)
            self.parking.queue(session)
            return
        self.parking.park(session)
        service, computed = self.ranks.service(session), session.num_computed_tokens
        self.ranks.turn_over(session.request_id)
        endpoint = self.continuations.waits_for(session)
        self.keeper.begin(session, endpoint, computed, service, in_place=True)

    def _close(self, session: Request) -> None:
        self.scheduler.finish_requests(session.request_id, RequestStatus.FINISHED_ABORTED)


def stop_turn(request: Request, reason: int | str) -> None:
    """End a request's turn behind its last token."""
    request.status = RequestStatus.FINISHED_STOPPED
    request.stop_reason = reason


def append_tokens(session: Request, update: StreamingUpdate) -> None:
    """Append tokens to a session for its next turn, keeping all that it has (vLLM drops the last
    sampled token)."""
    assert session.prompt_token_ids is not None
    session.prompt_token_ids.extend(session.output_token_ids)
    session._output_token_ids.clear()
    for feature in update.mm_features or ():
        offset = feature.mm_position.offset + session.num_tokens
        feature.mm_position = replace(feature.mm_position, offset=offset)
        session.mm_features.append(feature)
    appended = list(update.prompt_token_ids or ())
    session.prompt_token_ids.extend(appended)
    session._all_token_ids.extend(appended)
    session.update_block_hashes()
    session.num_prompt_tokens = len(session.prompt_token_ids)
    # A turn that ended before its first token has nothing left to compute. If nothing is added
    # either, the last token is computed again, since the next one is sampled behind it.
    session.num_computed_tokens = min(session.num_computed_tokens, session.num_tokens - 1)
    session.sampling_params = update.sampling_params
    session.max_tokens = update.max_tokens
    session.stop_reason = None
    session.num_preemptions = 0
    session.prefill_stats = PrefillStats()
    session.prefill_stats.set(session.num_prompt_tokens, session.num_computed_tokens, 0)
    session.status = RequestStatus.WAITING


def _report_end(
    outputs: Outputs,
    request: Request,
    finish_reason: FinishReason,
    stop_reason: str | None = None,
) -> None:
    """Add an output without tokens that ends a turn."""
    of_client = outputs.setdefault(request.client_index, EngineCoreOutputs())
    of_client.outputs.append(
        EngineCoreOutput(
            request_id=request.request_id,
            new_token_ids=[],
            finish_reason=finish_reason,
            stop_reason=stop_reason,
        )
    )
