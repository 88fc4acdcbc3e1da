"""The rule of InferCept's released code, which knows how long pauses will last."""

import pytest

from caesura.lab.sim.devices import simulated_device
from caesura.lab.sim.settings import ORACLE_OPTION, SimulationSettings
from caesura.lab.sim.simulate import plan_simulation
from caesura.lab.sim.simulated_run import simulate
from caesura.lab.sim.simulation import SimulatedRunReport
from caesura.policy import make_policy

DEVICE = simulated_device("a100-80gb")


def run(**options: float) -> SimulatedRunReport:
    settings = SimulationSettings(
        policies=("infercept",),
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
