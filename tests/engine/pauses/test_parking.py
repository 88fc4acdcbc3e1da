"""The states of sessions in place, and which changes there are."""

import pytest
from vllm.v1.request import Request, RequestStatus

from caesura.engine.pauses.parking import Parking, SessionState
from engine.virtual.engine import Shape
from engine.virtual.stage import Stage


def stage() -> Stage:
    return Stage(Shape(options={"policy": "preserve", "check_integrity": True}))


def parked(on: Stage, name: str = "session", tokens: int = 40) -> Request:
    """A session that waits for a tool."""
    on.session(name, tokens)
    on.run()
    session = on.scheduler.parking.parked(name)
    assert session is not None
    return session


def test_a_session_whose_turn_is_over_is_parked() -> None:
    on = stage()
    session = parked(on)
    parking = on.scheduler.parking
    assert parking.state("session") is SessionState.PARKED
    assert parking.num_parked() == 1
    assert session.status == RequestStatus.WAITING_FOR_STREAMING_REQ
    assert not parking.is_empty()
    assert parking.state("somebody else") is SessionState.QUEUED


def test_a_session_that_gets_tokens_is_vllms_again() -> None:
    on = stage()
    session = parked(on)
    on.scheduler.parking.queue(session)
    assert session in on.scheduler.kv_holding_waiting
    assert on.scheduler.parking.is_empty()


def test_a_session_without_room_to_generate_is_not_queued() -> None:
    on = stage()
    session = parked(on)
    session._all_token_ids.extend([1] * 300)
    on.scheduler.parking.queue(session)
    assert on.scheduler.parking.in_state(SessionState.FULL) == [session]
    assert session not in on.scheduler.waiting


def test_a_session_that_is_let_go_is_told_once_and_stays_known() -> None:
    on = stage()
    session = parked(on)
    parking = on.scheduler.parking
    parking.let_go(session)
    assert "session" not in on.scheduler.requests
    assert parking.is_let_go("session")
    assert parking.take_detached() == [session]
    assert parking.take_detached() == []
    assert parking.is_let_go("session"), "its client may not know it yet"
    assert not parking.end("session")
    assert not parking.is_let_go("session")


def test_a_client_that_gives_up_first_is_told_nothing() -> None:
    on = stage()
    session = parked(on)
    on.scheduler.parking.let_go(session)
    on.scheduler.parking.end("session")
    assert on.scheduler.parking.take_detached() == []


def test_a_parked_session_that_ends_was_parked() -> None:
    on = stage()
    parked(on)
    assert on.scheduler.parking.end("session")
    assert not on.scheduler.parking.end("session")
    assert on.scheduler.parking.is_empty()


def test_a_parked_session_without_blocks_stays_parked() -> None:
    on = stage()
    session = parked(on)
    before = on.free_blocks
    on.scheduler.parking.free(session)
    assert on.scheduler.parking.state("session") is SessionState.PARKED
    assert session.num_computed_tokens == 0
    assert on.free_blocks == before + 3


def test_a_waiting_session_without_blocks_moves_to_the_other_queue_after_the_step() -> None:
    on = stage()
    session = parked(on)
    parking, scheduler = on.scheduler.parking, on.scheduler
    parking.queue(session)
    parking.free(session)
    assert parking.state("session") is SessionState.RELEASED
    assert session in scheduler.kv_holding_waiting, "vLLM is looking at this queue"
    parking.requeue_released()
    assert session not in scheduler.kv_holding_waiting
    assert session in scheduler.waiting
    assert parking.is_empty()


def test_a_session_that_got_blocks_again_stays_in_its_queue() -> None:
    on = stage()
    session = parked(on)
    parking, scheduler = on.scheduler.parking, on.scheduler
    parking.queue(session)
    parking.free(session)
    session.num_computed_tokens = 16
    parking.requeue_released()
    assert session in scheduler.kv_holding_waiting
    assert session not in scheduler.waiting


ILLEGAL = {
    "a session that runs is parked": (SessionState.QUEUED, Parking.park),
    "a session that runs is let go": (SessionState.QUEUED, Parking.let_go),
    "a session that waits is queued again": (SessionState.QUEUED, Parking.queue),
    "a parked session stops": (SessionState.PARKED, Parking.stop),
    "a session is parked twice": (SessionState.PARKED, Parking.park),
    "a session that was just let go is parked": (SessionState.DETACHED, Parking.park),
    "a session is let go twice": (SessionState.DETACHED, Parking.let_go),
}


@pytest.mark.parametrize(("state", "change"), ILLEGAL.values(), ids=ILLEGAL.keys())
def test_other_changes_are_refused(state: SessionState, change) -> None:
    on = stage()
    session = parked(on)
    parking = on.scheduler.parking
    if state is SessionState.QUEUED:
        parking.queue(session)
    elif state is SessionState.DETACHED:
        parking.let_go(session)
    assert parking.state("session") is state
    with pytest.raises(AssertionError, match=f"session is {state} and cannot be"):
        change(parking, session)
    assert parking.state("session") is state
