"""What pauses wait for: named before they begin, and renamed while they last."""

import json
from collections import Counter

import pytest

from caesura.endpoints import NAMES_PER_OWNER, OTHER, endpoint_name
from engine.virtual.engine import Shape
from engine.virtual.listening import Listening
from engine.virtual.stage import Player, Stage

SHAPE = Shape(options={"policy": "engine.virtual.listening:Listening", "check_integrity": True})


def about(seconds: float) -> object:
    """Within what the engine's steps take."""
    return pytest.approx(seconds, abs=0.1)


class Scene(Stage):
    """One session, whose pauses get names."""

    def __init__(self) -> None:
        super().__init__(SHAPE)
        self.player: Player = self.session("session", 60)

    @property
    def policy(self) -> Listening:
        policy = self.scheduler.keeper.policy
        assert isinstance(policy, Listening)
        return policy

    def name(self, endpoint: str) -> None:
        self.scheduler.report_progress("session", None, None, endpoint)

    def wait(self, seconds: float) -> None:
        self.engine.now_seconds += seconds

    def come_back(self) -> None:
        self.extend(self.player, 10)
        self.run()

    def balance(self) -> dict[str, int]:
        """Pauses begun less pauses ended, by endpoint."""
        stats = self.scheduler.metrics.take()
        counts: Counter[str] = Counter()
        for key, count in (stats.data["counters"] if stats is not None else {}).items():
            name, endpoint = [*json.loads(key), ""][:2]
            if name in ("pauses", "pause_endings"):
                counts[endpoint] += int(count if name == "pauses" else -count)
        return dict(counts)


def test_a_session_says_what_it_will_wait_for_before_it_pauses() -> None:
    scene = Scene()
    scene.scheduler.name_next_pause("session", "search")
    scene.run()
    assert scene.policy.decided == ["search"]
    scene.come_back()
    assert scene.policy.decided == ["search", "client"], "a name is for one pause"
    assert scene.balance() == {"search": 0, "client": 1}


def test_the_latest_name_holds() -> None:
    scene = Scene()
    scene.scheduler.name_next_pause("session", "search")
    scene.scheduler.name_next_pause("session", "deploy")
    scene.run()
    assert scene.policy.decided == ["deploy"]


def test_a_name_that_comes_after_the_pause_has_begun_is_its_name() -> None:
    scene = Scene()
    scene.run()
    scene.scheduler.name_next_pause("session", "search")
    scene.come_back()
    assert [endpoint for endpoint, _ in scene.policy.learned] == ["search"]
    assert scene.balance() == {"client": 1, "search": 0}, "the second pause is open"


def test_names_for_nobody_are_ignored() -> None:
    scene = Scene()
    scene.scheduler.name_next_pause("nobody", "search")
    scene.run()
    scene.come_back()
    assert scene.scheduler.continuations.is_empty()


def test_a_session_that_ends_before_it_pauses_leaves_no_name() -> None:
    scene = Scene()
    scene.scheduler.name_next_pause("session", "search")
    scene.harness.abort("session", mid_step=False)
    scene.run()
    assert scene.scheduler.continuations.is_empty()


def test_the_time_of_a_human_is_not_the_tools() -> None:
    scene = Scene()
    scene.scheduler.name_next_pause("session", "deploy")
    scene.run()
    scene.wait(3.0)  # the tool works, and then asks
    scene.name("human")
    scene.wait(600.0)
    pause = scene.scheduler.keeper.table.get("session")
    assert pause is not None
    assert scene.engine.now_seconds - pause.endpoint_since_seconds == about(600.0)
    scene.name("deploy")
    assert scene.engine.now_seconds - pause.endpoint_since_seconds == about(3.0)
    scene.wait(2.0)
    scene.come_back()
    assert scene.policy.learned == [("human", about(600.0)), ("deploy", about(5.0))]
    assert scene.policy.gone == []
    assert scene.balance() == {"deploy": 0, "human": 0, "client": 1}


def test_a_session_that_comes_back_from_a_human_has_learned_nothing_about_the_tool() -> None:
    scene = Scene()
    scene.scheduler.name_next_pause("session", "deploy")
    scene.run()
    scene.name("human")
    scene.wait(60.0)
    scene.come_back()  # refused: the tool never ran
    assert scene.policy.learned == [("human", about(60.0))]


def test_a_session_that_is_closed_while_a_human_is_asked_was_given_up_by_the_human() -> None:
    scene = Scene()
    scene.scheduler.name_next_pause("session", "deploy")
    scene.run()
    scene.wait(1.0)
    scene.name("human")
    scene.wait(60.0)
    scene.harness.abort("session", mid_step=False)
    scene.run()
    assert scene.policy.gone == [("human", about(60.0))]
    assert scene.balance() == {"deploy": 0, "human": 0}


def test_a_wrong_name_is_corrected_for_the_whole_pause() -> None:
    scene = Scene()
    scene.run()
    scene.wait(4.0)
    scene.name("search")
    scene.wait(1.0)
    scene.come_back()
    assert scene.policy.learned == [("search", about(5.0))]


def test_a_report_on_a_tool_says_nothing_about_a_human() -> None:
    scene = Scene()
    scene.run()
    scene.scheduler.report_progress("session", 0.5, None, "search")
    pause = scene.scheduler.keeper.table.get("session")
    assert pause is not None
    assert pause.progress is not None
    scene.name("human")
    assert pause.progress is None


@pytest.mark.parametrize("text", ["a|b", "\ud800", "天气", "z" * 2**20])
def test_what_the_api_process_says_is_made_a_name_too(text: str) -> None:
    scene = Scene()
    scene.scheduler.name_next_pause("session", text)
    scene.run()
    assert scene.policy.decided == [endpoint_name(text)]
    scene.name("human")
    scene.name(text)
    scene.come_back()
    assert [endpoint for endpoint, _ in scene.policy.learned] == ["human", endpoint_name(text)]


def test_an_owner_that_names_too_many_waits_waits_for_others() -> None:
    scene = Scene()
    scene.run()
    pause = scene.scheduler.keeper.table.get("session")
    assert pause is not None
    for number in range(NAMES_PER_OWNER):
        scene.name(f"tool{number}")
        assert pause.endpoint == f"tool{number}"
    scene.name("one more")
    assert pause.endpoint == OTHER
