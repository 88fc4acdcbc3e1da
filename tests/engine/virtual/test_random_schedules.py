"""Random sessions and clients on random engines: nothing is lost, wrong, stuck or left behind."""

import random
from dataclasses import dataclass, replace
from functools import partial

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from vllm.utils.math_utils import cdiv

from caesura.policy import policy_names, policy_options
from engine.virtual.clients import ConversationClient, Habits, SessionClient
from engine.virtual.device import CopyBehaviour
from engine.virtual.engine import BLOCK_SIZE, Shape, VirtualEngine
from engine.virtual.harness import Client, Harness
from engine.virtual.runners import RunnerVersion
from support.draws import examples

CHAOS = "support.engines.chaos:Chaos"
BACK_AND_FORTH = "support.engines.chaos:BackAndForth"
RECLAIM = {"patience_floor_seconds": 0.1, "starvation_seconds": 1.0}
HURRY = {"ttl_seconds": 0.3, "saturation_tokens": 24, "quantum_tokens": 4, **RECLAIM}

_random_schedules = settings(max_examples=examples(100), suppress_health_check=list(HealthCheck))


@dataclass(frozen=True, slots=True)
class Scenario:
    """An engine, who uses it, and the seed of everything that is left open."""

    shape: Shape
    habits: Habits
    sessions: int
    conversations: int
    turns: int
    prompt_tokens: int
    shared_tokens: int
    spread_seconds: float
    seed: int
    resets: int = 0


def _policies(connected: bool) -> st.SearchStrategy[dict[str, object]]:
    chaos = st.builds(
        lambda seed, restless: {
            "policy": CHAOS,
            "policy_options": {"seed": seed, "restless": restless, **RECLAIM},
        },
        st.integers(0, 2**16),
        st.sampled_from((0.0, 0.1, 0.5)),
    )
    names = [name for name in policy_names() if connected or name != "swap"]
    return st.one_of(chaos, chaos, st.sampled_from(names).map(_named))


def _named(policy: str) -> dict[str, object]:
    """A policy that is in more of a hurry than usual, as far as it can be."""
    options = {name: value for name, value in HURRY.items() if name in policy_options(policy)}
    return {"policy": policy, "policy_options": options}


@st.composite
def scenarios(draw: st.DrawFn, in_flight: int, runner: RunnerVersion, connected: bool) -> Scenario:
    """Mostly too many clients for too little memory."""
    longest = draw(st.integers(3, 16))
    blocks = longest + draw(st.sampled_from((0, 0, 1, 3, 8, 24)))
    batched = draw(st.sampled_from((17, 32, 64, 256)))
    options = dict(draw(_policies(connected)))
    options["keep_contexts"] = draw(st.sampled_from(("auto", "auto", "all", "none")))
    options["max_pauses"] = draw(st.sampled_from((2, 8, 4096)))
    in_order = in_flight == 1 and runner is RunnerVersion.V1
    options["load_in_step"] = in_order and draw(st.booleans())
    options["check_integrity"] = True
    shape = Shape(
        blocks=blocks,
        max_num_seqs=draw(st.integers(1, 6)),
        max_num_batched_tokens=batched,
        max_model_len=longest * BLOCK_SIZE - draw(st.integers(0, 15)),
        in_flight=in_flight,
        runner=runner,
        connected=connected,
        host_blocks=draw(st.sampled_from((2, 8, 64, 512))) if connected else 0,
        budget_blocks=draw(st.sampled_from((1, 3, 16))),
        queue=draw(st.sampled_from(("fcfs", "priority"))),
        copies=CopyBehaviour(
            most_delay_steps=draw(st.sampled_from((0, 1, 4, 20))),
            failure_rate=draw(st.sampled_from((0.0, 0.0, 0.2, 1.0))),
            loads_fail=draw(st.integers(0, 9)) == 0,
        ),
        options=options,
    )
    crowd = draw(st.sampled_from((1, 1, 1, 4)))
    habits = Habits(
        max_tokens=draw(st.sampled_from((1, 8, 40))),
        stop_tokens=tuple(range(draw(st.sampled_from((0, 3, 16))))),
        most_appended=draw(st.sampled_from((1, 20, 60))),
        think_seconds=draw(st.sampled_from((0.01, 0.2, 2.0))),
        interrupt_rate=draw(st.sampled_from((0.0, 0.2, 0.6))),
        abort_rate=draw(st.sampled_from((0.0, 0.05, 0.3))),
        priorities=draw(st.sampled_from((1, 1, 3))),
    )
    return Scenario(
        shape=shape,
        habits=habits,
        sessions=draw(st.integers(0, 6)) * crowd,
        conversations=draw(st.integers(0, 6)) * crowd,
        turns=draw(st.integers(1, 5)),
        prompt_tokens=draw(st.integers(1, shape.max_model_len - 1)),
        shared_tokens=draw(st.sampled_from((0, 16, 40))),
        spread_seconds=draw(st.sampled_from((0.0, 0.2, 2.0))),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


@st.composite
def prefetches(draw: st.DrawFn, in_flight: int, runner: RunnerVersion) -> Scenario:
    """Contexts go and come while their sessions pause; caches are reset in between."""
    scenario = draw(scenarios(in_flight, runner, connected=True))
    restless = draw(st.sampled_from((0.6, 0.2)))
    options = scenario.shape.options | {
        "policy": BACK_AND_FORTH,
        "policy_options": {"seed": draw(st.integers(0, 2**16)), "restless": restless, **RECLAIM},
    }
    spare = draw(st.sampled_from((32, 4, 0)))
    host_blocks = draw(st.sampled_from((512, 64, 8)))
    shape = replace(
        scenario.shape,
        blocks=scenario.shape.blocks + spare,
        host_blocks=host_blocks,
        options=options,
    )
    habits = replace(
        scenario.habits,
        max_tokens=draw(st.sampled_from((24, 8, 40))),
        abort_rate=draw(st.sampled_from((0.05, 0.0, 0.2))),
        think_seconds=draw(st.sampled_from((0.2, 0.05, 0.5))),
    )
    return replace(
        scenario,
        shape=shape,
        habits=habits,
        sessions=draw(st.integers(2, 8)),
        turns=draw(st.integers(3, 8)),
        prompt_tokens=max(scenario.prompt_tokens, min(64, shape.max_model_len - 1)),
        resets=draw(st.sampled_from((0, 1, 2, 10))),
    )


@st.composite
def windowed(draw: st.DrawFn, scenarios: st.SearchStrategy[Scenario]) -> Scenario:
    """The same with sliding windows, or chunks, beside full attention."""
    scenario = draw(scenarios)
    chunked = draw(st.sampled_from((False, False, True)))
    sizes = ((32,), (48,), (16, 16), (64, 32)) if chunked else ((33,), (40,), (16, 16), (64, 17))
    windows = draw(st.sampled_from(sizes))
    options = scenario.shape.options | {"load_in_step": False}
    spare = scenario.shape.blocks - cdiv(scenario.shape.max_model_len, BLOCK_SIZE)
    shape = replace(
        scenario.shape,
        blocks=1000,
        windows=windows,
        chunked=chunked,
        window_block_size=BLOCK_SIZE * (1 if chunked else draw(st.sampled_from((1, 1, 2)))),
        retention_tokens=0 if chunked else draw(st.sampled_from((0, None, 4 * BLOCK_SIZE))),
        options=options,
    )
    return replace(scenario, shape=replace(shape, blocks=shape.most_blocks + spare))


def play(scenario: Scenario) -> Harness:
    """Run a scenario to its end and check that nothing is left of it."""
    rng = random.Random(scenario.seed)
    harness = Harness(VirtualEngine(scenario.shape, rng))
    shared = [rng.randrange(64) for _ in range(scenario.shared_tokens)]
    clients: list[Client] = []

    def start(kind: type[SessionClient] | type[ConversationClient], name: str) -> None:
        count = rng.randint(1, scenario.prompt_tokens)
        prompt = [*shared, *(rng.randrange(64) for _ in range(count))][: scenario.prompt_tokens]
        clients.append(kind(harness, name, prompt, scenario.turns, scenario.habits, rng))

    for number in range(scenario.sessions):
        delay = rng.uniform(0, scenario.spread_seconds)
        harness.after(delay, lambda number=number: start(SessionClient, f"session-{number}"))
    for number in range(scenario.conversations):
        delay = rng.uniform(0, scenario.spread_seconds)
        harness.after(delay, lambda number=number: start(ConversationClient, f"client-{number}"))
    for forget in (_overwrite, _overwrite, _overwrite, _reset, _reset_running):
        for _ in range(scenario.resets):
            delay = rng.uniform(0, 2 * scenario.spread_seconds + scenario.habits.think_seconds)
            harness.after(delay, partial(forget, harness))
    harness.run()
    unfinished = [client for client in clients if not client.done]
    assert not unfinished, harness.describe()
    harness.engine.idle_books()
    return harness


def _overwrite(harness: Harness) -> None:
    """What is free on the device has been used by others."""
    pool = harness.engine.scheduler.kv_cache_manager.block_pool
    pool.evict_blocks({block.block_id for block in pool.blocks if block.ref_cnt == 0})


def _reset(harness: Harness) -> None:
    harness.engine.scheduler.reset_prefix_cache()


def _reset_running(harness: Harness) -> None:
    """As for new weights: requests that run begin anew, unless blocks are in use meanwhile."""
    harness.engine.scheduler.reset_prefix_cache(reset_running_requests=True)


@pytest.mark.parametrize("connected", [False, True], ids=["device-only", "host-copies"])
@pytest.mark.parametrize("runner", list(RunnerVersion))
@pytest.mark.parametrize("in_flight", [1, 2], ids=["sync", "async"])
def test_random_schedules(in_flight: int, runner: RunnerVersion, connected: bool) -> None:
    @_random_schedules
    @given(scenarios(in_flight, runner, connected))
    def check(scenario: Scenario) -> None:
        note(repr(scenario))
        play(scenario)

    check()


@pytest.mark.parametrize("runner", list(RunnerVersion))
@pytest.mark.parametrize("in_flight", [1, 2], ids=["sync", "async"])
def test_random_prefetches(in_flight: int, runner: RunnerVersion) -> None:
    @_random_schedules
    @given(prefetches(in_flight, runner))
    def check(scenario: Scenario) -> None:
        note(repr(scenario))
        play(scenario)

    check()


@pytest.mark.parametrize("connected", [False, True], ids=["device-only", "host-copies"])
@pytest.mark.parametrize("runner", list(RunnerVersion))
@pytest.mark.parametrize("in_flight", [1, 2], ids=["sync", "async"])
def test_random_schedules_with_windows(
    in_flight: int, runner: RunnerVersion, connected: bool
) -> None:
    @_random_schedules
    @given(windowed(scenarios(in_flight, runner, connected)))
    def check(scenario: Scenario) -> None:
        note(repr(scenario))
        play(scenario)

    check()


@pytest.mark.parametrize("runner", list(RunnerVersion))
@pytest.mark.parametrize("in_flight", [1, 2], ids=["sync", "async"])
def test_random_prefetches_with_windows(in_flight: int, runner: RunnerVersion) -> None:
    @_random_schedules
    @given(windowed(prefetches(in_flight, runner)))
    def check(scenario: Scenario) -> None:
        note(repr(scenario))
        play(scenario)

    check()


@given(scenarios(2, RunnerVersion.V2, connected=True))
def test_a_scenario_that_was_printed_can_be_played_again(scenario: Scenario) -> None:
    assert eval(repr(scenario)) == scenario
