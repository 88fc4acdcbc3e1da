"""Waste of device memory, by hand: a step takes 4 ms and 0.1 ms per token; blocks have 16."""

from collections import Counter

import pytest

from caesura.engine.metrics import counter_key
from caesura.engine.pauses.waste import Waste
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.stage import Player, Stage


def stage_of(policy: str, **options: object) -> Stage:
    stage = Stage(
        Shape(
            connected=True,
            host_blocks=64,
            budget_blocks=16,
            options={"policy": policy, "check_integrity": True, **options},
        )
    )
    stage.scheduler.waste.restart()
    return stage


def counts(stage: Stage) -> Counter[str]:
    """What was counted since the last time."""
    stage.scheduler.waste.publish()
    stats = stage.scheduler.metrics.take()
    return Counter() if stats is None else Counter(stats.data["counters"])


def wasted(stage: Stage) -> dict[Waste, float]:
    """Token-seconds since the last time."""
    counted = counts(stage)
    return {waste: counted[counter_key("waste_token_seconds", waste)] for waste in Waste}


def recomputed(counted: Counter[str]) -> dict[str, float]:
    """Tokens by cause."""
    return {key: n for key, n in counted.items() if key.startswith('["recomputed_tokens"')}


def caused(cause: str, tokens: int) -> dict[str, float]:
    return {counter_key("recomputed_tokens", cause): tokens}


def short_of_memory() -> Stage:
    return Stage(Shape(blocks=16, options={"policy": "preserve", "check_integrity": True}))


def assert_all_else_is_recomputed_because(stage: Stage, cause: str) -> None:
    """Run to the end: what was scheduled beyond every token once is recomputed for this cause."""
    scheduled: list[int] = []
    stage.engine.on_schedule = lambda output: scheduled.append(output.total_num_scheduled_tokens)
    stage.run()
    once = sum(len(player.transcript.tokens) - 1 for player in stage.players)
    assert sum(scheduled) > once
    assert recomputed(counts(stage)) == caused(cause, sum(scheduled) - once)


def test_a_paused_context_holds_whole_blocks_until_its_session_is_scheduled() -> None:
    stage = stage_of("preserve")
    session = stage.session("session", 60)  # 4 blocks
    stage.run()
    counts(stage)
    stage.engine.now_seconds += 10
    assert wasted(stage) == pytest.approx({"held": 64 * 10, "recomputed": 0, "copied": 0})
    stage.extend(session, 20)
    stage.engine.now_seconds += 2  # its tokens have come, and it waits for a step
    stage.harness.run(until=lambda: session.turns == 2)
    assert wasted(stage)[Waste.HELD] == pytest.approx(64 * 2)


def test_device_memory_counts_as_long_as_the_engine_is_there() -> None:
    stage = stage_of("preserve")
    stage.engine.now_seconds += 10
    assert counts(stage)[counter_key("device_token_seconds")] == pytest.approx(48 * 16 * 10)
    stage.engine.now_seconds += 5
    stage.scheduler.waste.restart()
    stage.engine.now_seconds += 1
    assert counts(stage)[counter_key("device_token_seconds")] == pytest.approx(48 * 16)


def test_a_block_that_two_paused_contexts_share_counts_once() -> None:
    stage = stage_of("preserve")
    first = stage.session("first", 4 * BLOCK_SIZE + 1)
    stage.run()
    twin = Player(stage.harness, "twin", first.transcript.tokens[:-1])
    stage.submit(twin, 1, resumable=True)
    stage.run()
    counts(stage)
    stage.engine.now_seconds += 1
    assert len(stage.scheduler.keeper.table) == 2
    # Four whole blocks together, and one begun by each.
    assert wasted(stage)[Waste.HELD] == pytest.approx(6 * BLOCK_SIZE)


def test_memory_is_idle_while_tokens_are_computed_again_by_their_share_of_the_iteration() -> None:
    stage = stage_of("discard")
    session = stage.session("session", 60)
    stage.run()
    stage.forget_device_copies()
    counts(stage)
    stage.extend(session, 20)
    stage.run()
    # 81 tokens, and the last one sampled, in steps of 64: the first 60 were computed before. The
    # first step takes 10.4 ms, and the session has 4 blocks then.
    counted = counts(stage)
    assert recomputed(counted) == caused("dropped", 60)
    token_seconds = 0.0104 * 60 / 64 * 64
    assert counted[counter_key("waste_token_seconds", Waste.RECOMPUTED)] == pytest.approx(
        token_seconds
    )


def test_others_that_run_meanwhile_are_kept_idle_too() -> None:
    stage = stage_of("discard")
    session = stage.session("session", 60)
    stage.run()
    stage.forget_device_copies()
    other = stage.request("other", 30, 50)  # 2 blocks, 3 from its third token on
    stage.harness.run(until=lambda: other.tokens == 5)
    counts(stage)
    stage.extend(session, 20)
    stage.harness.run(until=lambda: session.turns == 2)
    # 1 + 63 tokens with 60 recomputed; then 1 + 18.
    assert wasted(stage)[Waste.RECOMPUTED] == pytest.approx(0.0104 * 60 / 64 * (48 + 64))


def test_memory_that_a_load_has_taken_is_idle_until_it_is_filled() -> None:
    stage = stage_of("swap")
    session = stage.session("session", 100)
    stage.run()
    stage.forget_device_copies()
    counts(stage)
    stage.extend(session, 20)
    stage.run()
    # 6 whole blocks are loaded in a step that computes nothing, and the other 4 tokens recomputed.
    counted = counts(stage)
    assert counted[counter_key("waste_token_seconds", Waste.COPIED)] == pytest.approx(96 * 0.004)
    assert recomputed(counted) == caused("tail", 4)
    # They are 4 of the 25 tokens of the next step, which takes 6.5 ms with 8 blocks.
    assert counted[counter_key("waste_token_seconds", Waste.RECOMPUTED)] == pytest.approx(
        0.0065 * 4 / 25 * 128
    )


def test_memory_is_idle_while_an_iteration_waits_for_copies() -> None:
    stage = stage_of("swap", load_in_step=True)
    session = stage.session("session", 100)
    stage.run()
    stage.forget_device_copies()
    stage.scheduler.keeper.contexts.transfers.seconds_per_block = 0.0005
    counts(stage)
    stage.extend(session, 20)
    stage.run()
    # 3 ms of a step of 6.5 ms go into 6 blocks; the other 3.5 ms by the tokens.
    token_seconds = wasted(stage)
    assert token_seconds[Waste.COPIED] == pytest.approx(0.003 * 128)
    assert token_seconds[Waste.RECOMPUTED] == pytest.approx(0.0035 * 4 / 25 * 128)


def test_an_iteration_does_not_wait_longer_than_it_takes() -> None:
    stage = stage_of("swap", load_in_step=True)
    session = stage.session("session", 100)
    stage.run()
    stage.forget_device_copies()
    stage.scheduler.keeper.contexts.transfers.seconds_per_block = 1.0
    counts(stage)
    stage.extend(session, 20)
    stage.run()
    token_seconds = wasted(stage)
    assert token_seconds[Waste.COPIED] == pytest.approx(0.0065 * 128)
    assert token_seconds[Waste.RECOMPUTED] == 0


def test_what_a_preempted_request_had_is_recomputed() -> None:
    stage = short_of_memory()
    for name in ("one", "two"):
        stage.request(name, 100, 60)
    assert_all_else_is_recomputed_because(stage, "preempted")


def test_what_a_client_renders_differently_is_recomputed_because_of_its_template() -> None:
    stage = stage_of("preserve")
    first = stage.request("first", 80, 4, endpoint="tool", session_id="chat")
    stage.run()
    changed = [*first.transcript.tokens[:40], *stage.words(60)]
    stage.submit(Player(stage.harness, "second", changed), 3, session_id="chat")
    counts(stage)
    stage.run()
    # Two whole blocks are as before.
    assert recomputed(counts(stage)) == caused("template", 83 - 32)


def test_what_another_request_took_the_memory_of_is_evicted() -> None:
    stage = short_of_memory()
    session = stage.session("session", 100)
    stage.harness.after(1.0, lambda: stage.request("large", 200, 40) and None)
    stage.harness.after(9.0, lambda: stage.extend(session, 10))
    assert_all_else_is_recomputed_because(stage, "evicted")
