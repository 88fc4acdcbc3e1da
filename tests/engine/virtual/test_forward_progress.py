"""Paused sessions delay others for a bounded time, and stop nobody.

The tests fill the pool with paused contexts and then want it back. The engine is virtual, so a
wait that would be forever fails at once.
"""

import pytest

from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.runners import RunnerVersion
from engine.virtual.stage import Player, Stage, every_mode

STARVATION_SECONDS = 2.0
NEVER = 1e6
# Nothing is past break-even, so that only the rule's last clause can help.
PATIENT = {
    "policy": "preserve",
    "policy_options": {
        "starvation_seconds": STARVATION_SECONDS,
        "patience_floor_seconds": NEVER,
    },
    "check_integrity": True,
}


@every_mode()
def test_a_running_request_goes_on_at_once(in_flight: int, runner: RunnerVersion) -> None:
    shape = Shape(
        blocks=300,
        max_num_seqs=2,
        max_model_len=512,
        in_flight=in_flight,
        runner=runner,
        options=PATIENT,
    )
    stage = Stage(shape)
    paused = stage.fill_with_paused_sessions()
    assert len(paused) == 300
    begun = stage.harness.now_seconds
    runs = stage.request("runs", 10, max_tokens=400)
    stage.run()
    assert runs.turns == 1
    # One token in each step, and one step more where the last is discovered late.
    assert stage.harness.now_seconds - begun < 0.0051 + 401 * 0.0041
    # Only what it needed was taken.
    holding = [pause for pause in stage.scheduler.keeper.table if pause.hold is not None]
    assert len(holding) == 300 - (10 + 399) // BLOCK_SIZE - 1


@every_mode()
@pytest.mark.parametrize("tokens", [16, 500, 2047])
def test_an_idle_engine_starts_a_new_request_at_once(
    in_flight: int, runner: RunnerVersion, tokens: int
) -> None:
    shape = Shape(
        blocks=128,
        max_num_seqs=2,
        max_num_batched_tokens=4096,
        max_model_len=2048,
        in_flight=in_flight,
        runner=runner,
        options=PATIENT,
    )
    stage = Stage(shape)
    stage.fill_with_paused_sessions()
    arrived = stage.harness.now_seconds
    new = stage.request("new", tokens, max_tokens=1)
    stage.run()
    assert new.first_token_seconds is not None
    steps = new.first_token_seconds - arrived
    assert steps < 3 * (0.004 + 1e-4 * tokens)


@every_mode()
@pytest.mark.parametrize("tokens", [16, 500, 1200])
def test_a_busy_engine_starts_a_new_request_in_bounded_time(
    in_flight: int, runner: RunnerVersion, tokens: int
) -> None:
    shape = Shape(
        blocks=128,
        max_num_seqs=2,
        max_num_batched_tokens=4096,
        max_model_len=2048,
        in_flight=in_flight,
        runner=runner,
        options=PATIENT,
    )
    stage = Stage(shape)
    stage.fill_with_paused_sessions()
    busy = stage.request("busy", 17, max_tokens=100_000)
    stage.harness.run(until=lambda: busy.tokens > 1)
    assert stage.free_blocks == 0
    arrived = stage.harness.now_seconds
    new = stage.request("new", tokens, max_tokens=1)
    stage.harness.run(until=lambda: new.turns > 0)
    assert busy.turns == 0
    assert new.first_token_seconds is not None
    waited = new.first_token_seconds - arrived
    assert STARVATION_SECONDS * 0.9 < waited < STARVATION_SECONDS + 0.5


def test_a_session_past_break_even_gives_way_before_anybody_starves() -> None:
    options = {
        "policy": "preserve",
        "policy_options": {"patience_floor_seconds": 0.3, "starvation_seconds": NEVER},
    }
    stage = Stage(Shape(blocks=64, options=options))
    stage.fill_with_paused_sessions()
    busy = stage.request("busy", 17, max_tokens=200)
    stage.harness.run(until=lambda: busy.tokens > 1)
    arrived = stage.harness.now_seconds
    new = stage.request("new", 200, max_tokens=1)
    stage.harness.run(until=lambda: new.turns > 0)
    assert busy.turns == 0
    assert stage.harness.now_seconds - arrived < 0.4


@every_mode()
def test_two_returning_sessions_that_both_need_more_do_not_deadlock(
    in_flight: int, runner: RunnerVersion
) -> None:
    shape = Shape(blocks=16, max_model_len=256, in_flight=in_flight, runner=runner, options=PATIENT)
    stage = Stage(shape)
    sessions = [stage.session(name, 125) for name in ("one", "two")]
    stage.run()
    assert stage.free_blocks == 0
    for session in sessions:
        stage.extend(session, 100, max_tokens=20)
    stage.run()
    assert [session.turns for session in sessions] == [2, 2]


@every_mode()
def test_two_interrupted_sessions_that_both_need_more_do_not_deadlock(
    in_flight: int, runner: RunnerVersion
) -> None:
    shape = Shape(blocks=16, max_model_len=256, in_flight=in_flight, runner=runner, options=PATIENT)
    stage = Stage(shape)
    sessions = [stage.session(name, 122, max_tokens=6) for name in ("one", "two")]
    stage.harness.run(until=lambda: all(session.tokens > 0 for session in sessions))
    chunks = [stage.append_later(session, 100) for session in sessions]
    for session, chunk in zip(sessions, chunks, strict=True):
        stage.harness.run(until=lambda session=session: session.turns > 0)
        session.transcript.append(chunk)
    stage.run()
    assert [session.turns for session in sessions] == [2, 2]


@every_mode()
def test_a_continuation_does_not_wait_for_the_context_that_it_continues(
    in_flight: int, runner: RunnerVersion
) -> None:
    """A client that renders its history anew shares only the beginning of what is held."""
    options = {**PATIENT, "keep_contexts": "all"}
    shape = Shape(blocks=16, max_model_len=256, in_flight=in_flight, runner=runner, options=options)
    stage = Stage(shape)
    first = stage.request("turn-1", 40, max_tokens=200, session_id="session")
    stage.run()
    assert stage.free_blocks < 4
    again = Player(stage.harness, "turn-2", [*first.transcript.tokens[:40], *stage.words(200)])
    stage.submit(again, 5, session_id="session")
    stage.run()
    assert again.turns == 1


@every_mode()
def test_a_request_does_not_wait_for_its_own_hold_on_a_second_copy_of_a_prefix(
    in_flight: int, runner: RunnerVersion
) -> None:
    """Requests that start together compute a shared prefix twice; the cache then finds one."""
    options = {**PATIENT, "keep_contexts": "all"}
    shape = Shape(blocks=16, max_model_len=256, in_flight=in_flight, runner=runner, options=options)
    stage = Stage(shape)
    prompt = stage.words(100)
    for name in ("one", "two"):
        player = Player(stage.harness, name, prompt)
        stage.submit(player, 2, session_id=name)
    stage.run()
    for name in ("one", "two"):
        again = Player(stage.harness, f"{name}-again", [*prompt, *stage.words(140)])
        stage.submit(again, 1, session_id=name)
    stage.run()
    assert stage.scheduler.keeper.table.returning_count() == 0
    assert not stage.scheduler.requests


def test_the_oldest_pauses_of_clients_are_forgotten_past_the_limit() -> None:
    options = {**PATIENT, "keep_contexts": "all", "max_pauses": 5}
    stage = Stage(Shape(blocks=64, options=options))
    for number in range(12):
        stage.request(f"client-{number}", 30, max_tokens=2)
        stage.run()
    kept = sorted(pause.id for pause in stage.scheduler.keeper.table)
    assert kept == sorted(f"client-{number}" for number in range(7, 12))
    stage.engine.idle_books()


def test_the_oldest_parked_sessions_are_let_go_past_the_limit() -> None:
    stage = Stage(Shape(blocks=64, options={**PATIENT, "max_pauses": 5}))
    sessions = [stage.session(f"session-{number}", 30) for number in range(12)]
    stage.run()
    detached = [session.detached for session in sessions]
    assert detached.count(True) == 7
    assert stage.scheduler.parking.num_parked() == 5
    for session in sessions:
        if not session.detached:
            stage.harness.abort(session.name, mid_step=False)
    stage.run()
    stage.engine.idle_books()


def test_hundreds_of_parked_sessions_take_no_slot_of_the_model_runner() -> None:
    stage = Stage(
        Shape(blocks=600, max_num_seqs=2, runner=RunnerVersion.V2, in_flight=2, options=PATIENT)
    )
    sessions = [stage.session(f"session-{number}", 20) for number in range(300)]
    stage.run()
    assert stage.scheduler.parking.num_parked() == 300
    for session in sessions:
        stage.extend(session, 5, max_tokens=3)
    stage.run()
    assert all(session.turns == 2 for session in sessions)


@every_mode()
def test_a_request_whose_load_is_complete_gives_way_if_nothing_else_does(
    in_flight: int, runner: RunnerVersion
) -> None:
    """It waits behind one that does not fit, and nobody has noted yet that it could start."""
    shape = Shape(
        connected=True,
        host_blocks=64,
        in_flight=in_flight,
        runner=runner,
        options={"policy": "swap", "check_integrity": True},
    )
    stage = Stage(shape)
    session = stage.session("session", 100)
    stage.run()
    stage.forget_device_copies()
    stage.extend(session, 20)
    scheduler = stage.scheduler
    stage.harness.run(until=lambda: "session" in scheduler.finished_recving_kv_req_ids)
    free = stage.free_blocks
    needy = stage.engine.request("needy", [1] * 200, max_tokens=1)
    assert scheduler.displacing.release_waiting(needy)
    assert stage.free_blocks == free + 100 // BLOCK_SIZE
    stage.run()
    assert session.turns == 2
