"""What vLLM does with sessions, as Caesura relies on it in every version that it runs on.

Signatures stay the same when behaviour changes; these tests notice the change itself. The list of
what is relied on is docs/explanation/vllm.md.
"""

import inspect
from collections import deque
from unittest.mock import patch

import pytest
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.engine import FinishReason
from vllm.v1.outputs import KVConnectorOutput
from vllm.v1.request import Request, RequestStatus

from caesura.engine.pauses.turns import Turns
from caesura.engine.scheduler import InterceptScheduler
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.runners import RunnerVersion
from engine.virtual.stage import Stage, every_mode

PRESERVE = {"policy": "preserve", "check_integrity": True}


def stage_of(in_flight: int, runner: RunnerVersion) -> Stage:
    return Stage(Shape(in_flight=in_flight, runner=runner, options=PRESERVE))


def places(scheduler: InterceptScheduler, request: Request) -> list[str]:
    """Where vLLM has a request, once per entry."""
    queues = ("running", "waiting", "kv_holding_waiting", "deferred_waiting")
    return [name for name in queues for other in getattr(scheduler, name) if other is request]


@every_mode()
def test_a_session_whose_turn_stopped_is_in_no_queue(in_flight: int, runner: RunnerVersion) -> None:
    stage = stage_of(in_flight, runner)
    stage.request("other", 20, 40)
    session = stage.session("session", 30, max_tokens=5)
    stage.harness.run(until=lambda: session.turns == 1)
    request = stage.scheduler.requests["session"]
    assert request.status == RequestStatus.WAITING_FOR_STREAMING_REQ
    assert places(stage.scheduler, request) == []
    stage.run()
    assert places(stage.scheduler, request) == []


@every_mode()
def test_a_stopped_session_may_be_queued_by_whoever_takes_it_for_a_request(
    in_flight: int, runner: RunnerVersion
) -> None:
    """vLLM does it at the end of the step, from 0.33 on."""
    stage = stage_of(in_flight, runner)

    def stop(turns: Turns, session: Request) -> None:
        original(turns, session)
        stage.scheduler._enqueue_waiting_request(session)

    original = Turns.stop
    with patch.object(Turns, "stop", stop):
        session = stage.session("session", 30, max_tokens=5)
        stage.run()
    assert places(stage.scheduler, stage.scheduler.requests["session"]) == []
    stage.extend(session, 5)
    stage.run()
    assert session.turns == 2


@every_mode()
def test_a_session_that_goes_on_is_in_one_queue_once(in_flight: int, runner: RunnerVersion) -> None:
    stage = stage_of(in_flight, runner)
    session = stage.session("session", 30, max_tokens=20)
    stage.harness.run(until=lambda: session.tokens > 3)
    chunk = stage.append_later(session, 10)
    stage.harness.run(until=lambda: session.turns == 1)
    request = stage.scheduler.requests["session"]
    assert len(places(stage.scheduler, request)) == 1
    session.transcript.append(chunk)
    stage.run()
    assert session.turns == 2


@every_mode()
def test_there_are_no_placeholders_without_a_step_in_flight(
    in_flight: int, runner: RunnerVersion
) -> None:
    stage = stage_of(in_flight, runner)
    scheduler = stage.scheduler
    sessions = [stage.session(f"session-{number}", 30, max_tokens=9) for number in range(3)]
    stage.harness.run(until=lambda: sessions[0].tokens > 3)
    chunk = stage.append_later(sessions[0], 10, max_tokens=3)
    pending = True
    while stage.engine.has_work():
        stage.harness.run(until=iter((False, True)).__next__)  # one step
        if pending and sessions[0].turns:
            sessions[0].transcript.append(chunk)
            pending = False
        for request in scheduler.requests.values():
            assert request.num_in_flight_tokens >= 0
            assert request.num_output_placeholders >= 0
            if request.num_in_flight_tokens == 0:
                assert request.num_output_placeholders == 0
                assert request.num_computed_tokens <= request.num_tokens
    assert [session.turns for session in sessions] == [2, 1, 1]


@every_mode()
def test_a_turn_is_cached_before_it_is_cut(in_flight: int, runner: RunnerVersion) -> None:
    """What a turn has filled is found by its hash when `Turns.stop` goes back to it."""
    stage = stage_of(in_flight, runner)
    group = stage.scheduler.kv_cache_manager.coordinator.single_type_managers[0]
    cached: list[tuple[int, int]] = []

    def stop(turns: Turns, session: Request) -> None:
        cached.append((group.num_cached_block.get(session.request_id, 0), session.num_tokens - 1))
        original(turns, session)

    original = Turns.stop
    with patch.object(Turns, "stop", stop):
        for tokens in range(BLOCK_SIZE - 4, BLOCK_SIZE + 2):
            stage.session(f"session-{tokens}", tokens, max_tokens=4)
        stage.run()
    assert len(cached) == 6
    assert all(blocks == computed // BLOCK_SIZE for blocks, computed in cached)
    assert {blocks for blocks, _ in cached} == {0, 1}


@every_mode()
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_turn_that_stops_within_a_step_counts_what_it_keeps_as_computed(
    in_flight: int, runner: RunnerVersion, kept: int
) -> None:
    """Of three tokens that speculation accepted, all up to the limit are kept."""
    stage = stage_of(in_flight, runner)
    session = stage.session("session", 20, max_tokens=5 + kept)
    stage.harness.run(until=lambda: session.tokens == 5)
    request = stage.scheduler.requests["session"]
    sampled = [1, 2, 3]
    in_flight_before = request.num_output_placeholders
    request.num_computed_tokens += len(sampled)
    request.num_output_placeholders += len(sampled)
    tokens, stopped = stage.scheduler._update_request_with_output(request, sampled)
    assert (tokens, stopped) == ([1, 2, 3][:kept], True)
    stage.scheduler.turns.stop(request)
    assert request.num_output_placeholders == 0
    assert request.num_computed_tokens == request.num_tokens - 1
    assert in_flight_before == in_flight - 1


@every_mode()
def test_a_grammar_that_cannot_be_made_ends_the_session_and_nothing_else(
    in_flight: int, runner: RunnerVersion
) -> None:
    stage = stage_of(in_flight, runner)
    session = stage.session("session", 30)
    other = stage.session("other", 30)
    stage.run()
    words = stage.words(5)
    session.transcript.append(words)
    update = stage.engine.request("session", words, max_tokens=3, resumable=True)
    # No backend of grammars was started for it.
    update.sampling_params.structured_outputs = StructuredOutputsParams(grammar="start: 1")
    stage.harness.send(session, update)
    stage.extend(other, 5)
    stage.run()
    assert session.endings == [FinishReason.LENGTH, FinishReason.ERROR]
    assert "session" not in stage.scheduler.requests
    assert other.endings == [FinishReason.LENGTH, FinishReason.LENGTH]


OF_THE_SCHEDULER = {
    "running": list,
    "requests": dict,
    "finished_req_ids": set,
    "reset_preempted_req_ids": set,
    "deferred_waiting": set,
    "recompute_kv_load_failures": bool,
    "max_num_scheduled_tokens": int,
}
OF_A_REQUEST = {
    "_all_token_ids": list,
    "_output_token_ids": list,
    "prompt_token_ids": list,
    "block_hashes": list,
    "mm_features": list,
    "spec_token_ids": list,
    "streaming_queue": deque,
    "arrival_time": float,
    "drop_stale_output": bool,
    "max_tokens": int,
    "num_computed_tokens": int,
    "num_in_flight_tokens": int,
    "num_output_placeholders": int,
    "num_preemptions": int,
    "num_prompt_tokens": int,
    "num_stale_output_tokens": int,
}


def test_what_is_changed_of_vllms_has_these_types() -> None:
    stage = stage_of(1, RunnerVersion.V1)
    stage.session("session", 30)
    stage.run()
    scheduler = stage.scheduler
    request = scheduler.requests["session"]
    assert {name: type(getattr(scheduler, name)) for name in OF_THE_SCHEDULER} == OF_THE_SCHEDULER
    assert {name: type(getattr(request, name)) for name in OF_A_REQUEST} == OF_A_REQUEST


def test_the_connector_reports_by_these_fields() -> None:
    names = inspect.signature(KVConnectorOutput).parameters
    assert {"finished_recving", "invalid_block_ids", "kv_connector_worker_meta"} <= set(names)
