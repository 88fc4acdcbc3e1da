"""Every policy serves all sessions of a simulation to their end, under pressure too."""

import pytest

from caesura.lab.sim.devices import simulated_device
from caesura.lab.sim.settings import SimulationSettings
from caesura.lab.sim.simulate import plan_simulation
from caesura.lab.sim.simulated_run import simulate
from caesura.policy import policy_names

DEVICE = simulated_device("a100-80gb")


@pytest.mark.parametrize("policy", policy_names())
def test_all_sessions_are_completed(policy: str) -> None:
    settings = SimulationSettings(
        policies=(policy,),
        rates=(8.0,),
        seeds=(0,),
        sessions=30,
        host_memory_bytes=10**9,
        kv_memory_bytes=4 * 10**9,
    ).on(DEVICE)
    (planned,) = plan_simulation(settings, DEVICE.profile)
    report = simulate(planned).report
    assert report.completed == report.sessions == 30
    assert report.recomputed_tokens, "there is no pressure"
