"""Clients over HTTP get what sessions on the server get."""

from pathlib import Path

import pytest

from caesura.lab.sim.devices import simulated_device
from caesura.lab.sim.settings import SimulationSettings, TurnsAs
from caesura.lab.sim.simulate import plan_simulation
from caesura.lab.sim.simulated_run import simulate
from caesura.lab.sim.simulation import SimulatedRunReport

PROFILE = Path(__file__).parents[3] / "benchmarks" / "results" / "calibration_under_load.json"


def run(policy: str, turns_as: TurnsAs = TurnsAs.IN_PLACE) -> SimulatedRunReport:
    """As `caesura bench` runs on a CPU, more than it can serve."""
    device = simulated_device(str(PROFILE))
    settings = SimulationSettings(
        policies=(policy,),
        workload="infercept-sample",
        scale_tokens=0.5,
        scale_pauses=0.2,
        rates=(2.8,),
        seeds=(4,),
        sessions=80,
        kv_memory_bytes=32 * 2**20,
        host_memory_bytes=2**30,
        block_size=32,
        max_batched_tokens=512,
        max_seqs=64,
        turns_as=turns_as,
    ).on(device)
    (planned,) = plan_simulation(settings, device.profile)
    return simulate(planned).report


@pytest.fixture(scope="module")
def in_place() -> SimulatedRunReport:
    return run("min-waste")


@pytest.mark.parametrize("turns_as", [TurnsAs.REQUESTS, TurnsAs.UNNAMED])
def test_clients_get_what_sessions_in_place_get(
    turns_as: TurnsAs, in_place: SimulatedRunReport
) -> None:
    clients, stock = run("min-waste", turns_as), run("stock", turns_as)
    mean = clients.normalized_latency_ms.mean
    assert clients.completed == clients.sessions == 80
    assert mean < 1.5 * in_place.normalized_latency_ms.mean
    assert mean < stock.normalized_latency_ms.mean / 3
    assert clients.goodput_per_second > 0.6 * in_place.goodput_per_second
    assert clients.goodput_per_second > 2 * stock.goodput_per_second
    assert clients.resume_ttft_ms.p95 < 500


def test_a_server_without_caesura_gets_requests_in_any_case() -> None:
    assert run("stock", TurnsAs.IN_PLACE) == run("stock", TurnsAs.UNNAMED)
