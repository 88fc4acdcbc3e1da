"""What a request is told of the context that it came back to, and who may come back to it."""

from caesura.engine.pauses.pause import HoldEnding
from caesura.engine.protocol import OWNER_ARGUMENT, REPORT
from caesura.policy import Drop
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.stage import Player, Stage

TOKENS = 5 * BLOCK_SIZE
ASKED = {REPORT: True}


def stage_of(policy: str, budget_blocks: int = 16) -> Stage:
    shape = Shape(
        connected=True,
        host_blocks=64,
        budget_blocks=budget_blocks,
        options={"policy": policy, "check_integrity": True},
    )
    return Stage(shape)


def paused(stage: Stage, **extra_args: object) -> Player:
    """A request that ended in a tool call."""
    player = stage.request("first", TOKENS, 4, endpoint="get_weather", extra_args=extra_args)
    stage.run()
    return player


def returned(stage: Stage, first: Player, name: str = "second", **extra_args: object) -> Player:
    """The request that sends it back with a result."""
    player = Player(stage.harness, name, [*first.transcript.tokens, *stage.words(10)])
    stage.submit(player, 3, extra_args=extra_args)
    stage.run()
    return player


def test_a_context_that_was_kept_is_found() -> None:
    stage = stage_of("preserve")
    report = returned(stage, paused(stage), **ASKED).report
    assert report is not None
    assert report["policy"] == report["disposition"] == "preserve"
    assert report["endpoint"] == "get_weather"
    assert report["context_tokens"] == TOKENS + 3
    assert report["held_tokens"] == TOKENS
    assert report["loaded_tokens"] == 0
    assert report["recomputed_tokens"] == 3
    assert report["predicted_seconds"] is None


def test_a_turn_that_may_end_at_a_stop_string_is_told_before_its_end() -> None:
    for stop in ((), ("</code>",)):
        stage = stage_of("preserve")
        first = paused(stage)
        player = Player(stage.harness, "second", [*first.transcript.tokens, *stage.words(10)])
        stage.submit(player, 50, extra_args=ASKED, stop=stop)
        stage.harness.run(until=lambda player=player: player.tokens > 0)
        assert (player.report is not None) == bool(stop)
        stage.run()
        assert player.report is not None
        assert player.report["endpoint"] == "get_weather"


def test_a_context_that_was_copied_out_is_loaded() -> None:
    stage = stage_of("swap")
    first = paused(stage)
    stage.forget_device_copies()
    report = returned(stage, first, **ASKED).report
    assert report is not None
    assert (report["disposition"], report["loaded_tokens"]) == ("swap", TOKENS)


def test_a_context_whose_tail_gives_way_while_it_is_copied_out_leaves_the_device_too() -> None:
    """A hold whose front was copied when its tail was taken waits for no copy any more."""
    stage = stage_of("swap", budget_blocks=1)
    paused_request = stage.request("paused", TOKENS, 4, session_id="s")
    keeper = stage.scheduler.keeper
    stage.harness.run(until=lambda: any(p.copied_tokens >= 2 * BLOCK_SIZE for p in keeper.table))
    (pause,) = keeper.table
    assert paused_request.turns == 1
    keeper.act(Drop(pause.id, keep_tokens=pause.copied_tokens), HoldEnding.RELEASED)
    assert pause.hold is not None
    stage.run()
    assert pause.hold is None


def test_a_context_that_was_dropped_is_computed_again() -> None:
    stage = stage_of("discard")
    report = returned(stage, paused(stage), **ASKED).report
    assert report is not None
    assert (report["disposition"], report["recomputed_tokens"]) == ("discard", TOKENS + 3)


def test_the_prediction_stands_beside_how_long_the_pause_was() -> None:
    stage = stage_of("min-waste")
    first = paused(stage)
    stage.engine.now_seconds += 7
    report = returned(stage, first, **ASKED).report
    assert report is not None
    assert 7 <= report["paused_seconds"] < 7.1
    assert report["predicted_seconds"] > 0


def test_who_does_not_ask_is_told_nothing() -> None:
    stage = stage_of("preserve")
    first = paused(stage)
    assert returned(stage, first).report is None


def test_a_request_that_comes_back_to_nothing_is_told_nothing() -> None:
    stage = stage_of("preserve")
    assert paused(stage, **ASKED).report is None


def test_only_its_owner_comes_back_to_a_pause() -> None:
    stage = stage_of("preserve")
    first = paused(stage, **{OWNER_ARGUMENT: "alpha"})
    for name, owner in (("nobody", {}), ("other", {OWNER_ARGUMENT: "beta"})):
        assert returned(stage, first, name, **ASKED, **owner).report is None
    assert len(stage.scheduler.keeper.table) == 1
    assert returned(stage, first, "own", **ASKED, **{OWNER_ARGUMENT: "alpha"}).report is not None


def test_a_session_id_is_its_owners() -> None:
    stage = stage_of("preserve")
    first = stage.request(
        "first", TOKENS, 4, session_id="chat", extra_args={OWNER_ARGUMENT: "alpha"}
    )
    stage.run()
    words = [*first.transcript.tokens, *stage.words(10)]
    for owner, told in (("beta", False), ("alpha", True)):
        player = Player(stage.harness, owner, words)
        extra_args = {**ASKED, OWNER_ARGUMENT: owner}
        stage.submit(player, 3, session_id="chat", extra_args=extra_args)
        stage.run()
        assert (player.report is not None) == told


def test_only_what_nobody_else_has_is_freed_by_releasing_a_hold() -> None:
    """Two contexts share their first three blocks; each has two of its own."""
    stage = stage_of("preserve")
    shared = stage.words(3 * BLOCK_SIZE)
    for name in ("one", "other"):
        player = Player(stage.harness, name, [*shared, *stage.words(2 * BLOCK_SIZE)])
        stage.submit(player, 1, session_id=name)
        stage.run()
    pauses = list(stage.scheduler.keeper.table)
    assert [pause.held_tokens for pause in pauses] == [5 * BLOCK_SIZE] * 2
    assert [pause.freeable_tokens() for pause in pauses] == [2 * BLOCK_SIZE] * 2
