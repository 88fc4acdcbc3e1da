"""Which contexts are loaded ahead of their sessions."""

from dataclasses import replace

import pytest

from caesura.policy import CostModel, Disposition, Load, Memory, Prefetch
from caesura.policy.duration import DurationModel
from caesura.policy.min_waste import MinWaste
from caesura.policy.prefetch import SPARE_SHARE, PrefetchRule
from caesura.policy.progress import Progress
from support.engines.fake_pauses import FakeEngine, FakePause

NOW = 1000.0
COSTS = CostModel(1e-4, 1e-2, seconds_per_copied_token=1e-4)
DEVICE, HOST = Memory(10_000, 10_000), Memory(10_000, 0)
QUIET = Load(running_requests=4, copy_budget_tokens=5000)


def durations() -> DurationModel:
    """ "soon" returns after one second, "late" after a minute, "never" is given up."""
    model = DurationModel()
    for _ in range(200):
        model.observe("soon", 1.0)
        model.observe("late", 60.0)
        model.observe_gone("never", 1.0)
    return model


DURATIONS = durations()


def away(name: str, endpoint: str = "soon", elapsed_seconds: float = 0.95, **more: object):
    values = {"held_tokens": 0, "copied_tokens": 1000, "disposition": Disposition.DISCARD, **more}
    return FakePause(name, NOW - elapsed_seconds, endpoint=endpoint, **values)  # type: ignore[arg-type]


def loaded(
    *pauses: FakePause, load: Load = QUIET, device: Memory = DEVICE, ahead_seconds: float = 0.1
) -> list[str]:
    state = FakeEngine(MinWaste(), pauses, costs=COSTS, load=load, device=device, host=HOST)
    rule = PrefetchRule(ahead_seconds, least_probability=0.5, list_every_seconds=0.0)
    actions = rule.loads(state.snapshot(NOW), DURATIONS)
    assert all(isinstance(action, Prefetch) for action in actions)
    return [action.pause_id for action in actions]


def test_a_session_that_returns_by_the_end_of_its_load_is_loaded() -> None:
    # 1,000 tokens take 0.1 s, so the horizon is 0.2 s.
    assert loaded(away("near")) == ["near"]
    assert loaded(away("far", elapsed_seconds=0.5)) == []
    assert loaded(away("long", elapsed_seconds=0.5, copied_tokens=5000)) == ["long"]
    assert loaded(away("far", elapsed_seconds=0.5), ahead_seconds=1.0) == ["far"]


def test_who_is_expected_late_or_not_at_all_is_not_loaded() -> None:
    assert loaded(away("late", "late"), away("never", "never")) == []


def test_a_report_of_progress_outweighs_what_was_learned() -> None:
    nearly = Progress.from_remaining(0.95, 0.05)
    not_yet = Progress.from_remaining(0.95, 30.0)
    assert loaded(away("one", "late", progress=nearly), away("other", progress=not_yet)) == ["one"]
    hardly_begun = Progress.from_fraction(0.95, 0.01)
    assert loaded(away("believed little", progress=hardly_begun)) == ["believed little"]


def test_nothing_is_loaded_that_is_on_the_device_or_returning() -> None:
    assert loaded(away("held", held_tokens=1000), away("back", returning=True)) == []
    assert loaded(away("front", held_tokens=400)) == ["front"]


@pytest.mark.parametrize(
    "busy",
    [{"waiting_requests": 1}, {"link_backlog_tokens": 5000}],
    ids=["somebody waits", "the link is busy"],
)
def test_loads_ahead_take_from_nobody(busy: dict[str, int]) -> None:
    assert loaded(away("near"), load=replace(QUIET, **busy)) == []  # type: ignore[arg-type]


def test_memory_to_spare_stays() -> None:
    spare = int(SPARE_SHARE * 10_000)
    assert loaded(away("near"), device=Memory(10_000, spare + 999)) == []
    pauses = [away("one"), away("other")]
    assert loaded(*pauses, device=Memory(10_000, spare + 1999)) == ["one"]
    assert loaded(*pauses, device=Memory(10_000, spare + 2000)) == ["one", "other"]


def test_the_most_probable_goes_first_within_the_budget_of_an_iteration() -> None:
    nearly = Progress.from_remaining(0.95, 0.0)
    pauses = [away("one"), away("sure", progress=nearly), away("other")]
    load = replace(QUIET, copy_budget_tokens=1500)
    assert loaded(*pauses, load=load) == ["sure", "one"]


@pytest.mark.parametrize(("prefetch", "chosen"), [(1.0, ["near"]), (0.0, [])])
def test_min_waste_loads_ahead_if_it_is_told_to(prefetch: float, chosen: list[str]) -> None:
    policy = MinWaste(prefetch=prefetch)
    policy.durations = DURATIONS
    state = FakeEngine(policy, [away("near")], costs=COSTS, load=QUIET, device=DEVICE, host=HOST)
    assert [
        action.pause_id for action in state.plan(NOW).actions if isinstance(action, Prefetch)
    ] == chosen
