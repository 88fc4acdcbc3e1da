"""Fluid engines: what they do exactly, and how near they are to the scheduler."""

from functools import cache

import pytest

from caesura.lab.bench.service import Yardstick, served
from caesura.lab.bench.stats import necessary_tokens
from caesura.lab.bench.unloaded import ProfiledTimes
from caesura.lab.bench.workload import Segment, WorkloadSession
from caesura.lab.sim.devices import simulated_device
from caesura.lab.sim.fluid import FluidEngine, FluidSettings
from caesura.lab.sim.fluid_experience import Experience, first_stage, later_stage
from caesura.lab.sim.fluid_memory import FluidMemory, Resting
from caesura.lab.sim.profiles import device_profile
from caesura.lab.sim.settings import SimulationSettings
from caesura.lab.sim.simulate import plan_simulation
from caesura.lab.sim.simulated_run import simulate, simulated
from caesura.lab.sim.simulation import SimulatedRun, SimulatedRunReport
from caesura.lab.sim.virtual_replay import virtual_replay

PROFILE = device_profile("h100-80gb", "llama-3.1-8b")
DEVICE = simulated_device("a100-80gb")
SETTINGS = SimulationSettings(
    policies=("min-waste",),
    rates=(8.0,),
    seeds=(0,),
    engines=4,
    sessions=240,
    kv_memory_bytes=10 * 10**9,
    host_memory_bytes=10**9,
    fluid=True,
).on(DEVICE)


def engine(kv_tokens: int = 100_000, *, pauses: bool = True, host_tokens: int = 0) -> FluidEngine:
    settings = FluidSettings(PROFILE, kv_tokens, host_tokens, 1e9, 64, 512, pauses)
    return FluidEngine(settings, Experience())


def planned(policy: str, **changes: object) -> SimulatedRun:
    settings = SETTINGS.model_copy(update={"policies": (policy,), **changes})
    (run,) = plan_simulation(settings, DEVICE.profile)
    return run


@cache
def report(policy: str, router: str, fluid: bool) -> SimulatedRunReport:
    return simulate(planned(policy, router=router, fluid=fluid)).report


@pytest.mark.parametrize("in_place", [True, False])
def test_a_session_alone_takes_what_the_profile_says(in_place: bool) -> None:
    spec = WorkloadSession(
        "s", "math", (Segment(1300, 20, 1.0, "tool"), Segment(700, 1, 2.0, "tool"), Segment(1, 9))
    )
    one = engine(pauses=in_place)
    record = virtual_replay([one], ["s"], [spec], [0.0], in_place=in_place)
    session = served(record.sessions[0], Yardstick(ProfiledTimes(PROFILE, 512)))
    assert [turn.wait_seconds for turn in session.turns] == pytest.approx([0, 0, 0], abs=1e-9)
    assert session.active_seconds == pytest.approx(session.unloaded_seconds, rel=1e-3)
    assert one.scheduled_tokens == necessary_tokens(record)


@pytest.mark.parametrize("policy", ["stock", "min-waste"])
@pytest.mark.parametrize("router", ["sticky", "least"])
def test_fluid_engines_are_near_the_scheduler(policy: str, router: str) -> None:
    fluid, exact = report(policy, router, True), report(policy, router, False)
    assert fluid.completed == exact.completed == fluid.sessions
    assert fluid.normalized_latency_ms.mean == pytest.approx(
        exact.normalized_latency_ms.mean, rel=0.35
    )
    shares = [run.recomputed_tokens / run.scheduled_tokens for run in (fluid, exact)]
    assert shares[0] == pytest.approx(shares[1], abs=0.1)
    assert shares[1] > 0.1, "there is no pressure"
    assert fluid.moved_turns_share == pytest.approx(exact.moved_turns_share, abs=0.1)


def test_with_ample_memory_nothing_is_computed_twice() -> None:
    for policy in ("stock", "min-waste"):
        run = simulate(planned(policy, engines=1, sessions=40, kv_memory_bytes=50 * 10**9)).report
        assert run.scheduled_tokens == run.necessary_tokens


@pytest.mark.parametrize("policy", ["stock", "min-waste"])
def test_no_session_is_lost_where_turns_are_preempted_and_engines_go_away(policy: str) -> None:
    run = planned(policy, kv_memory_bytes=2 * 10**9, fail=("3:0",), drain=("5:1",))
    _, record = simulated(run)
    for asked, session in zip(run.arrivals.sessions, record.sessions, strict=True):
        assert [turn.output_tokens for turn in session.turns] == [
            segment.output_tokens for segment in asked.segments
        ]


def test_a_run_is_the_same_each_time() -> None:
    run = planned("min-waste", stale_seconds=0.5)
    assert simulate(run).report == simulate(run).report


def test_host_memory_brings_contexts_back() -> None:
    without, much = (
        simulate(planned("min-waste", host_memory_bytes=size)).report for size in (0, 50 * 10**9)
    )
    assert not without.loaded_tokens
    assert much.loaded_tokens > 0
    assert much.recomputed_tokens < without.recomputed_tokens / 2


def resting(name: str, tokens: int, endpoint: str = "tool") -> Resting:
    return Resting(name, endpoint, 0.0, tokens)


def test_the_longest_pauses_give_way_first_and_the_shortest_not_at_all() -> None:
    experience = Experience()
    experience.paused("human", 60.0)
    experience.paused("tool", 1.0)
    memory = FluidMemory(3000, 0, experience)
    memory.rest(resting("a", 1000))
    memory.rest(resting("b", 1000, "human"))
    assert memory.make_room(1500, shortest_pause=30.0)
    assert (memory.left_of("a"), memory.left_of("b")) == (1000, 488)
    assert not memory.make_room(2500, shortest_pause=30.0)
    assert (memory.left_of("a"), memory.left_of("b")) == (1000, 488)
    assert memory.make_room(2500)
    assert memory.left_of("b") == 0 < memory.left_of("a") <= 500
    assert memory.free_tokens + memory.left_of("a") == 3000


def test_without_experience_the_least_recently_used_gives_way() -> None:
    memory = FluidMemory(2000, 0, None)
    memory.rest(resting("a", 1000))
    memory.rest(resting("b", 1000, "human"))
    memory.rest(resting("a", 1000))
    assert memory.make_room(600)
    assert (memory.left_of("a"), memory.left_of("b")) == (1000, 400)


def test_a_session_that_needs_room_keeps_its_own_context() -> None:
    memory = FluidMemory(2000, 0, None)
    memory.rest(resting("a", 1000))
    memory.rest(resting("b", 1000))
    assert memory.make_room(1000, of="a")
    assert (memory.left_of("a"), memory.left_of("b")) == (1000, 0)
    assert not memory.make_room(1001, of="a")


def test_what_gives_way_goes_to_host_memory_while_there_is_room() -> None:
    memory = FluidMemory(1000, 600, Experience())
    memory.rest(resting("a", 1000))
    assert memory.make_room(512)
    context = memory.take("a")
    assert (context.device_tokens, context.host_tokens) == (488, 512)
    assert memory.stored_tokens == 512
    memory.rest(resting("b", 1000))
    assert memory.make_room(512)
    assert memory.make_room(1000)  # host memory takes no more: what is behind is lost
    assert memory.take("b").host_tokens == 0


def test_sessions_are_learned_from_when_they_are_over() -> None:
    experience = Experience()
    stage = first_stage(1000)
    assert experience.remaining_tokens(stage) == 0
    experience.ended({stage: 0, later_stage("tool", 1): 40}, 100)
    assert experience.remaining_tokens(stage) == 50  # one session: half as sure
    assert experience.remaining_tokens(later_stage("tool", 1)) == 30
    assert later_stage("tool", 7) == later_stage("tool", 3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"policies": ("stock", "swap")},
            "--fluid knows the policies stock and min-waste, not swap",
        ),
        ({"turns_as": "requests"}, "in place only"),
        ({"shared_prefix_tokens": 64}, "no shared prefix"),
        ({"trace_path": "trace.json", "engines": 1}, "a trace is of one engine"),
    ],
)
def test_what_fluid_engines_cannot_do_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SimulationSettings.model_validate(
            {**SETTINGS.model_dump(exclude={"horizon_seconds"}), **changes}
        )
