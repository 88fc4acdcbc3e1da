"""Least waste across all requests: regret, price, releases, copies ahead."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.policy import CopyAhead, CostModel, Disposition, Drop, DropCopy, Load, Memory, Snapshot
from caesura.policy.min_waste import COPY_AHEAD_SHARE, MinWaste
from caesura.policy.progress import Progress
from support.engines.fake_pauses import FakeEngine, FakePause, demand
from support.work import LINE_SECONDS, lines_run

COSTS = CostModel(1e-4, 1e-2, seconds_per_copied_token=1e-5)
DEVICE = Memory(10_000, 0)
HOST = Memory(10_000, 10_000)
PRESSED = Load(4, 5000, 10, 0, copy_budget_tokens=600)
NOW = 1000.0


class KnownDurations:
    """Every pause lasts as long again as its endpoint's name says, and surely returns."""

    def expected_remaining_seconds(self, endpoint: str, elapsed_seconds: float) -> float:
        return float(endpoint)

    def return_probability(self, endpoint: str, elapsed_seconds: float) -> float:
        return 1.0


def known_policy() -> MinWaste:
    policy = MinWaste()
    policy.durations = KnownDurations()  # type: ignore[assignment]
    return policy


def paused(
    name: str, remaining_seconds: float, held_tokens: int = 1000, **more: object
) -> FakePause:
    disposition = Disposition.PRESERVE
    return FakePause(
        name, NOW, held_tokens, endpoint=str(remaining_seconds), disposition=disposition, **more
    )  # type: ignore[arg-type]


def engine(*pauses: FakePause, load: Load = PRESSED, host: Memory = HOST) -> FakeEngine:
    return FakeEngine(known_policy(), pauses, costs=COSTS, load=load, device=DEVICE, host=host)


def released(state: FakeEngine, tokens: int, **changes: object) -> list[tuple[str, int]]:
    actions = state.releases(demand(tokens, **changes), NOW)
    assert all(isinstance(action, Drop) for action in actions)
    return [(action.pause_id, action.keep_tokens) for action in actions]


# The price is 10 waiting / 10,000 tokens = 1e-3. Without a copy regret is 1e-4 * 15 /
# remaining, since 4 run, 10 wait and one returns: it is below the price when the pause is expected
# to last for more than 1.5 s.


def test_price_by_hand() -> None:
    assert MinWaste().price(engine().snapshot(NOW)) == 10 / 10_000


def test_price_of_an_engine_without_a_queue_is_zero() -> None:
    state = engine(paused("endless", 1e6), load=replace(PRESSED, waiting_requests=0))
    assert released(state, 1) == []


@pytest.mark.parametrize(("remaining", "breaks"), [(1.49, False), (1.51, True), (60.0, True)])
def test_a_waiting_request_breaks_holds_with_regret_below_the_price(
    remaining: float, breaks: bool
) -> None:
    assert bool(released(engine(paused("tool", remaining)), 1000)) is breaks


def test_regret_of_a_copied_context_is_that_of_loading_it() -> None:
    # 400 lost and 600 copied: (15 * 1e-4 * 400 + 1e-5 * 600) / (1000 * remaining) < 1e-3
    copied = {"copied_tokens": 600}
    assert released(engine(paused("tool", 0.605, **copied)), 1000) == []
    assert released(engine(paused("tool", 0.607, **copied)), 1000) == [("tool", 0)]


def test_regret_shrinks_with_the_probability_that_the_session_returns() -> None:
    state = engine(paused("tool", 1.0))
    policy = state.policy
    assert isinstance(policy, MinWaste)
    assert released(state, 1000) == []
    policy.durations.return_probability = lambda endpoint, elapsed: 0.5  # type: ignore[method-assign]
    state = FakeEngine(policy, state.pauses, costs=COSTS, load=PRESSED, device=DEVICE)
    policy.rank_every_seconds = 0.0
    assert released(state, 1000) == [("tool", 0)]


# With windows a context takes another amount of memory than it has tokens.


def double(tokens: int) -> int:
    return 2 * tokens


def test_regret_is_per_memory_that_comes_free() -> None:
    # 15 * 1e-4 * 1000 / (2000 * remaining) < 1e-3
    assert released(engine(paused("tool", 0.74, memory_of=double)), 2000) == []
    assert released(engine(paused("tool", 0.76, memory_of=double)), 2000) == [("tool", 0)]


def test_regret_of_a_copied_context_counts_the_memory_that_is_loaded() -> None:
    # (15 * 1e-4 * 400 + 1e-5 * 1200) / (2000 * remaining) < 1e-3
    copied = {"copied_tokens": 600, "memory_of": double}
    assert released(engine(paused("tool", 0.305, **copied)), 2000) == []
    assert released(engine(paused("tool", 0.307, **copied)), 2000) == [("tool", 0)]


@pytest.mark.parametrize(("free", "copies"), [(1999, 0), (2000, 1)])
def test_a_context_is_copied_ahead_if_host_memory_has_room_for_what_it_takes(
    free: int, copies: int
) -> None:
    pause = paused("tool", 60.0, memory_of=double)
    plan = engine(pause, host=Memory(10_000, free)).plan(NOW)
    assert sum(isinstance(action, CopyAhead) for action in plan.actions) == copies


def test_a_tool_that_says_that_it_is_nearly_done_keeps_its_hold() -> None:
    said = Progress.from_remaining(0.0, 0.1)
    assert released(engine(paused("silent", 60.0)), 1000) == [("silent", 0)]
    assert released(engine(paused("nearly", 60.0, progress=said)), 1000) == []


def test_least_regret_goes_first_and_no_more_than_needed() -> None:
    state = engine(paused("brief", 2.0), paused("long", 60.0), paused("middle", 20.0))
    assert released(state, 2000) == [("long", 0), ("middle", 0)]


def test_nothing_is_broken_for_a_demand_that_cannot_be_met() -> None:
    state = engine(paused("long", 60.0), paused("short", 0.1))
    assert released(state, 1001) == []
    assert released(state, 1000) == [("long", 0)]


def test_a_partial_release_keeps_the_front() -> None:
    assert released(engine(paused("long", 60.0)), 300) == [("long", 700)]


def test_blocks_that_others_share_do_not_count() -> None:
    state = engine(paused("shared", 60.0, shared_tokens=1000), paused("own", 30.0))
    assert released(state, 1000) == [("own", 0)]


def test_returning_sessions_and_the_asking_one_keep_their_holds() -> None:
    state = engine(paused("back", 60.0, returning=True), paused("asking", 60.0))
    assert released(state, 100) == []


@pytest.mark.parametrize(
    "strong",
    [
        {"running": True},
        {"engine_idle": True},
        {"waited_seconds": MinWaste().starvation_seconds},
    ],
    ids=["running", "idle", "starving"],
)
def test_running_idle_and_starving_demands_break_everything_in_order(
    strong: dict[str, object],
) -> None:
    state = engine(paused("back", 1e6, returning=True), paused("brief", 0.01), paused("long", 60.0))
    state.plan(NOW)  # ranks
    state.pauses.append(FakePause("new", NOW))
    everything = [("long", 0), ("brief", 0), ("new", 0), ("back", 0)]
    assert released(state, 1, **strong) == everything


@given(
    remaining=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12),
    waiting=st.integers(0, 40),
    tokens=st.integers(1, 15_000),
)
def test_releases_are_cheap_enough_and_suffice_or_are_none(
    remaining: list[float], waiting: int, tokens: int
) -> None:
    pauses = [paused(str(number), seconds) for number, seconds in enumerate(remaining)]
    load = replace(PRESSED, waiting_requests=waiting)
    actions = released(engine(*pauses, load=load), tokens)
    by_id = {pause.id: pause for pause in pauses}
    regrets = [1e-4 * (5 + waiting) / float(by_id[name].endpoint) for name, _ in actions]
    assert all(regret < waiting / 10_000 for regret in regrets)
    assert regrets == sorted(regrets)
    freed = sum(1000 - keep for _, keep in actions)
    affordable = sum(
        1000 for seconds in remaining if 1e-4 * (5 + waiting) / seconds < waiting / 10_000
    )
    assert freed == (tokens if tokens <= affordable else 0)


# Copies ahead


def copies(state: FakeEngine, now: float = NOW) -> tuple[list[str], list[str]]:
    """Which are copied, and whose copies are dropped for it."""
    actions = list(state.plan(now).actions)
    copied = [action.pause_id for action in actions if isinstance(action, CopyAhead)]
    dropped = [action.pause_id for action in actions if isinstance(action, DropCopy)]
    assert len(actions) == len(copied) + len(dropped)
    return copied, dropped


def test_what_is_released_next_is_copied_first_within_the_budget() -> None:
    pauses = [paused(str(seconds), seconds, 400) for seconds in (1.0, 5.0, 30.0, 60.0)]
    assert copies(engine(*pauses)) == (["60.0", "30.0"], [])


def test_a_copy_is_given_up_for_one_that_is_worth_more() -> None:
    worthy, released_in_part = paused("worthy", 2.0, 400), paused("part", 60.0, 400)
    released_in_part.copied_tokens, released_in_part.copy_requested = 400, True
    released_in_part.held_tokens, released_in_part.disposition = 100, Disposition.DISCARD
    state = engine(worthy, released_in_part, host=Memory(400, 0))
    drops = [action for action in state.plan(NOW).actions if isinstance(action, DropCopy)]
    assert drops == [DropCopy("part")]


def test_nothing_is_copied_while_the_link_is_busy() -> None:
    load = replace(PRESSED, link_backlog_tokens=600)
    assert copies(engine(paused("tool", 60.0), load=load)) == ([], [])


def test_nothing_is_copied_while_nobody_wants_the_memory() -> None:
    state = engine(paused("tool", 60.0), load=replace(PRESSED, waiting_requests=0))
    state.device = Memory(10_000, 9000)
    assert copies(state) == ([], [])
    state.device = Memory(10_000, int(COPY_AHEAD_SHARE * 10_000) - 1)
    assert copies(state) == (["tool"], [])


def test_only_the_next_share_of_device_memory_is_copied_ahead() -> None:
    load = replace(PRESSED, copy_budget_tokens=100_000)
    pauses = [paused(str(seconds), seconds) for seconds in range(1, 9)]
    assert copies(engine(*pauses, load=load)) == (["8", "7", "6"], [])


def test_a_copy_is_asked_for_once() -> None:
    state = engine(paused("tool", 60.0))
    assert state.step(NOW) == {}
    assert state.pauses[0].copy_requested
    assert copies(state, NOW + 0.05) == ([], [])


def test_without_host_memory_nothing_is_copied_or_reviewed() -> None:
    plan = engine(paused("tool", 60.0), host=Memory(0, 0)).plan(NOW)
    assert (list(plan.actions), plan.review_seconds) == ([], None)


def test_only_copies_that_are_worth_less_than_half_are_replaced() -> None:
    full = Memory(10_000, 0)
    wanted = paused("wanted", 10.0)
    far = paused("far", 100.0, 0, copied_tokens=1000, copy_requested=True)
    near = paused("near", 19.0, 0, copied_tokens=1000, copy_requested=True)
    assert copies(engine(wanted, near, host=full)) == ([], [])
    assert copies(engine(wanted, near, far, host=full)) == (["wanted"], ["far"])


def test_no_copy_is_dropped_where_that_would_not_suffice() -> None:
    far = paused("far", 100.0, 0, copied_tokens=900, copy_requested=True)
    assert copies(engine(paused("wanted", 1.0), far, host=Memory(10_000, 99))) == ([], [])
    assert copies(engine(paused("wanted", 1.0), far, host=Memory(10_000, 100))) == (
        ["wanted"],
        ["far"],
    )


def test_a_copy_is_dropped_for_one_other_only() -> None:
    far = paused("far", 100.0, 0, copied_tokens=200, copy_requested=True)
    wanted = [paused("one", 2.0, 200), paused("other", 1.0, 200)]
    assert copies(engine(*wanted, far, host=Memory(10_000, 0))) == (["one"], ["far"])


def test_saving_a_context_replaces_copies_of_less_worth_if_they_are_enough() -> None:
    far = paused("far", 100.0, 0, copied_tokens=600, copy_requested=True)
    near = paused("near", 6.0, 0, copied_tokens=600, copy_requested=True)
    back = paused("back", 200.0, 0, copied_tokens=600, copy_requested=True, returning=True)
    state = engine(far, near, back)
    snapshot, policy = state.snapshot(NOW), state.policy
    assert list(policy.copies_given_up(snapshot, 500, paused("middle", 10.0))) == ["far"]
    assert list(policy.copies_given_up(snapshot, 700, paused("middle", 10.0))) == []
    assert list(policy.copies_given_up(snapshot, 700, None)) == ["far", "near"]


@given(
    held=st.lists(st.tuples(st.floats(0.1, 100), st.integers(1, 1500)), max_size=10),
    copied=st.lists(st.tuples(st.floats(0.1, 1000), st.integers(1, 1500)), max_size=10),
    free=st.integers(0, 3000),
    budget=st.integers(1, 5000),
)
def test_copies_ahead_fit_host_memory_and_budget(
    held: list[tuple[float, int]],
    copied: list[tuple[float, int]],
    free: int,
    budget: int,
) -> None:
    pauses = [paused(f"held{n}", seconds, size) for n, (seconds, size) in enumerate(held)]
    pauses += [
        paused(f"copied{n}", seconds, 0, copied_tokens=size, copy_requested=True)
        for n, (seconds, size) in enumerate(copied)
    ]
    load = replace(PRESSED, copy_budget_tokens=budget)
    wanted, dropped = copies(engine(*pauses, load=load, host=Memory(10_000, free)))
    by_id = {pause.id: pause for pause in pauses}
    sizes = [by_id[name].held_tokens for name in wanted]
    room = free + sum(by_id[name].copied_tokens for name in dropped)
    assert sum(sizes) <= room
    assert sum(sizes[:-1]) < budget
    assert len(dropped) == len(set(dropped))


def test_copying_saves_contexts_if_it_is_faster_than_computing() -> None:
    assert MinWaste().saves_contexts(COSTS)
    assert not MinWaste().saves_contexts(replace(COSTS, seconds_per_copied_token=1e-3))


@pytest.mark.parametrize(
    ("used", "copied_seconds", "pays"),
    [
        (1.0, 4e-5, True),  # 1e-4 against 2 * 4e-5: out, and in again
        (1.0, 6e-5, False),
        (0.5, 3e-5, True),  # 0.5e-4 against 1.5 * 3e-5: every second one is for nothing
        (0.5, 4e-5, False),
        (0.0, 1e-9, False),
    ],
)
def test_copying_pays_by_the_share_of_copies_that_are_used(
    used: float, copied_seconds: float, pays: bool
) -> None:
    costs = CostModel(1e-4, 1e-2, seconds_per_copied_token=copied_seconds, copies_used=used)
    assert MinWaste().saves_contexts(costs) is pays


def test_a_negative_margin_turns_displacement_off() -> None:
    assert MinWaste().order.displacement_margin_seconds == 20.0
    assert MinWaste(displacement_margin_seconds=-1).order.displacement_margin_seconds is None


def test_durations_and_returns_are_learned_per_endpoint() -> None:
    policy = MinWaste()
    for _ in range(50):
        policy.ended("fast", 0.1, returned=True)
        policy.ended("lost", 0.1, returned=False)
    remaining = policy.durations.expected_remaining_seconds
    assert remaining("fast", 0.0) == pytest.approx(0.1, rel=0.3)
    probability = policy.durations.return_probability
    assert probability("lost", 0.0) < 0.2 < 0.9 < probability("fast", 0.0)


def test_a_new_pause_is_expected_to_last_as_those_before_it() -> None:
    policy = MinWaste()
    for _ in range(200):
        policy.ended("human", 50.0, returned=True)
        policy.ended("search", 2.0, returned=True)
    assert policy.expected_seconds("human") == pytest.approx(50, rel=0.3)
    assert policy.expected_seconds("search") == pytest.approx(2, rel=0.3)


def test_ranking_a_thousand_pauses_costs_far_less_than_a_step() -> None:
    """Reviews, and a demand in every iteration, with the learned durations."""
    rng = random.Random(0)
    policy = MinWaste()
    for number in range(3000):
        policy.ended(f"tool{number % 20}", rng.expovariate(0.1), returned=rng.random() < 0.95)
    pauses = [
        FakePause(
            str(number),
            NOW - rng.expovariate(0.1),
            rng.randint(200, 3000),
            endpoint=f"tool{number % 20}",
            disposition=Disposition.PRESERVE,
        )
        for number in range(1000)
    ]
    for pause in rng.sample(pauses, 300):
        pause.copied_tokens, pause.copy_requested = pause.held_tokens, True
    state = FakeEngine(
        policy, pauses, costs=COSTS, load=PRESSED, device=DEVICE, host=Memory(600_000, 0)
    )

    def plan(snapshot: Snapshot) -> None:
        list(policy.plan(snapshot).actions)

    step_seconds, lines = 0.02, []
    for step in range(200):
        now = NOW + step * step_seconds
        snapshot, asking = state.snapshot(now), state.snapshot(now, demand(2000))
        lines.append(lines_run(plan, asking))
        if step % 3 == 0:  # as often as it wants to be asked
            lines[-1] += lines_run(plan, snapshot)
    assert LINE_SECONDS * sum(lines) / len(lines) < 0.05 * step_seconds


def test_a_client_that_is_presumed_to_be_gone_is_ranked_by_those_that_stayed_away() -> None:
    """Nothing is known of who returns after so long; of those who left much is."""
    policy = MinWaste()
    for _ in range(50):
        policy.durations.observe("client", 1.0)
        policy.durations.observe_gone("client", 4.0)
    pauses = [
        FakePause(
            name, NOW - 1000.0, 1000, endpoint="client", disposition=Disposition.PRESERVE, **more
        )
        for name, more in (("unknown", {}), ("gone", {"gone_after_seconds": 4.0}))
    ]
    state = FakeEngine(policy, pauses, costs=COSTS, load=PRESSED, device=DEVICE, host=HOST)
    assert released(state, 500)[0][0] == "gone"
