"""Contexts that clients ask to be kept, and conversations that share one name."""

from typing import Any

import pytest

from caesura.endpoints import CLIENT
from caesura.engine.pauses.keeper import LASTING_PER_OWNER
from caesura.engine.protocol import KEEP_ARGUMENT, LONGEST_KEPT_SECONDS, OWNER_ARGUMENT
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.stage import Player, Stage

FORGET_SECONDS = 10.0


def stage(**options: Any) -> Stage:
    options = {"policy": "preserve", "forget_after_seconds": FORGET_SECONDS, **options}
    return Stage(Shape(connected=True, host_blocks=32, blocks=64, options=options))


def kept(on: Stage, name: str, seconds: object, owner: str = "anna") -> Player:
    arguments = {KEEP_ARGUMENT: seconds, OWNER_ARGUMENT: owner}
    player = on.request(name, 3 * BLOCK_SIZE, 2, extra_args=arguments)
    on.run()
    return player


def names(on: Stage) -> set[str]:
    return {pause.id for pause in on.scheduler.keeper.table}


def after(on: Stage, seconds: float) -> set[str]:
    """The pauses that are left after some time, once another one begins."""
    on.engine.now_seconds += seconds
    on.request(f"at {on.engine.now_seconds}", 8, 1, session_id="s")
    on.run()
    return names(on)


def test_a_context_is_kept_for_as_long_as_was_asked_for() -> None:
    on = stage()
    kept(on, "lasting", 100.0)
    on.request("usual", 3 * BLOCK_SIZE, 2, session_id="u")
    on.run()
    assert names(on) == {"lasting", "usual"}
    (pause, _) = on.scheduler.keeper.table
    assert pause.endpoint == CLIENT
    left = after(on, FORGET_SECONDS + 1)
    assert "lasting" in left
    assert "usual" not in left
    assert "lasting" not in after(on, 100.0)


def test_it_is_copied_out_at_once() -> None:
    on = stage()
    kept(on, "lasting", 100.0)
    (pause,) = on.scheduler.keeper.table
    assert pause.copy.copied_blocks == 3
    assert pause.held_tokens == 3 * BLOCK_SIZE, "the device keeps it, too, while there is room"
    usual = stage()
    usual.request("usual", 3 * BLOCK_SIZE, 2, session_id="u")
    usual.run()
    (pause,) = usual.scheduler.keeper.table
    assert pause.copy.copied_blocks == 0


@pytest.mark.parametrize("seconds", [None, 0, -5.0, True, "24h", float("nan")])
def test_what_is_no_time_keeps_nothing(seconds: object) -> None:
    on = stage()
    kept(on, "a", seconds)
    assert names(on) == set()


def test_nobody_keeps_a_context_for_ever() -> None:
    on = stage()
    kept(on, "a", 10 * LONGEST_KEPT_SECONDS)
    assert "a" in after(on, LONGEST_KEPT_SECONDS - 60)
    assert "a" not in after(on, 120)


def test_an_owner_keeps_so_many_and_takes_none_from_others() -> None:
    on = stage()
    for number in range(LASTING_PER_OWNER + 2):
        kept(on, f"a{number}", 1000.0)
    kept(on, "b", 1000.0, owner="bert")
    left = after(on, FORGET_SECONDS + 1)
    assert {f"a{number}" for number in range(LASTING_PER_OWNER)} <= left
    assert f"a{LASTING_PER_OWNER}" not in left, "beyond the limit it is kept as others are"
    assert "b" in left
    after(on, 2000.0)
    kept(on, "again", 1000.0)
    assert "again" in after(on, FORGET_SECONDS + 1)


def test_pauses_that_are_too_many_go_in_spite_of_what_was_asked() -> None:
    on = stage(max_pauses=3)
    for number in range(5):
        kept(on, f"a{number}", 1000.0)
    assert names(on) == {"a2", "a3", "a4"}


def returning(on: Stage, player: Player, session_id: str = "s") -> str | None:
    """The pause that the conversation's next request continues."""
    tokens = [*player.transcript.tokens, *on.words(8)]
    request = on.engine.request("next", tokens, max_tokens=1, session_id=session_id)
    pause = on.scheduler.continuations.find(request)
    on.scheduler.continuations.discard("next")
    return None if pause is None else pause.id


def conversations(on: Stage, common_blocks: int) -> tuple[Player, Player]:
    """Two conversations of one name that begin alike."""
    common = on.words(common_blocks * BLOCK_SIZE)
    made = []
    for name in ("a", "b"):
        player = Player(on.harness, name, [*common, *on.words(6 * BLOCK_SIZE)])
        on.submit(player, 2, session_id="s")
        on.run()
        made.append(player)
    return made[0], made[1]


def test_each_of_two_conversations_of_one_name_finds_its_own_context() -> None:
    on = stage()
    a, b = conversations(on, common_blocks=2)
    assert names(on) == {"a", "b"}
    assert returning(on, a) == "a"
    assert returning(on, b) == "b"


def test_a_conversation_is_no_other_because_it_begins_alike() -> None:
    on = stage()
    a, _ = conversations(on, common_blocks=2)
    third = Player(on.harness, "third", [*a.transcript.tokens[: 2 * BLOCK_SIZE], *on.words(200)])
    assert returning(on, third) is None


def test_a_history_that_is_rendered_otherwise_in_its_end_is_still_the_same() -> None:
    on = stage()
    a, _ = conversations(on, common_blocks=2)
    again = Player(on.harness, "again", [*a.transcript.tokens[: 5 * BLOCK_SIZE], *on.words(100)])
    assert returning(on, again) == "a"
