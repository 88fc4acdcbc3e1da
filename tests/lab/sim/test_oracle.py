"""Simulations that know the future: how long pauses last, how much sessions will generate."""

import pytest

from caesura.lab.sim.devices import simulated_device
from caesura.lab.sim.settings import KNOWN_WORK_OPTION, ORACLE_OPTION, SimulationSettings, TurnsAs
from caesura.lab.sim.simulate import plan_simulation
from caesura.lab.sim.simulated_run import simulate
from caesura.lab.sim.simulation import SimulatedRunReport
from caesura.lab.sim.vllm_known_work import know_work
from caesura.policy import make_policy
from engine.virtual.engine import Shape
from engine.virtual.stage import Stage

DEVICE = simulated_device("a100-80gb")


def run(
    policy: str = "infercept", turns_as: TurnsAs = TurnsAs.IN_PLACE, **options: float | str
) -> SimulatedRunReport:
    settings = SimulationSettings(
        turns_as=turns_as,
        policies=(policy,),
        rates=(8.0,),
        seeds=(0,),
        sessions=40,
        host_memory_bytes=0,
        kv_memory_bytes=4 * 10**9,
        policy_options=options,
    ).on(DEVICE)
    (planned,) = plan_simulation(settings, DEVICE.profile)
    return simulate(planned).report


def test_knowing_the_future_changes_what_is_discarded() -> None:
    published, oracle = run(), run(**{ORACLE_OPTION: 1.0})
    assert oracle != published
    assert run(**{ORACLE_OPTION: 0.0}) == published
    for report in (published, oracle):
        assert report.completed == report.sessions == 40


def test_nobody_knows_it_but_a_simulation_of_infercept() -> None:
    with pytest.raises(ValueError, match=ORACLE_OPTION):
        make_policy("infercept", {ORACLE_OPTION: 1.0})
    with pytest.raises(ValueError, match=ORACLE_OPTION):
        SimulationSettings(policies=("stock", "min-waste"), policy_options={ORACLE_OPTION: 1.0})


def test_knowing_the_work_changes_who_is_served() -> None:
    learned, known = run("min-waste"), run("min-waste", **{KNOWN_WORK_OPTION: 1.0})
    assert run("min-waste", **{KNOWN_WORK_OPTION: 0.0}) == learned
    assert known.completed == known.sessions == 40
    assert known != learned


def test_equal_sessions_rank_by_the_work_that_they_have_ahead_of_them() -> None:
    stage = Stage(Shape(options={"policy": "min-waste"}))
    know_work(stage.scheduler, {"much": 500, "little": 20})
    players = [stage.session(name, 60) for name in ("much", "little")]
    stage.run()
    for player in players:
        stage.extend(player, 10)
    much, little = (
        stage.scheduler.ranks.rank(stage.scheduler.requests[name]) for name in ("much", "little")
    )
    assert much is not None
    assert little is not None
    assert little < much - 100


def test_the_work_of_turns_that_are_requests_is_known_too() -> None:
    known = run("min-waste", TurnsAs.REQUESTS, **{KNOWN_WORK_OPTION: 1.0})
    assert known.completed == known.sessions == 40
    assert known != run("min-waste", TurnsAs.REQUESTS)


def test_work_is_known_only_where_it_is_expected() -> None:
    with pytest.raises(ValueError, match="served_by=work"):
        run("min-waste", served_by="arrival", **{KNOWN_WORK_OPTION: 1.0})
    with pytest.raises(ValueError, match=KNOWN_WORK_OPTION):
        SimulationSettings(policies=("infercept",), policy_options={KNOWN_WORK_OPTION: 1.0})
