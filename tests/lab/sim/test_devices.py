from pathlib import Path

import pytest

from caesura.lab.sim.devices import simulated_device
from caesura.lab.sim.profiles import device_profile, kv_bytes_that_fit
from caesura.lab.sim.settings import SimulationSettings


def test_a_device_by_name_has_a_model_and_memory_beside_its_weights() -> None:
    device = simulated_device("a100-80gb")
    assert device.profile == device_profile("a100-80gb", "gpt-j-6b")
    assert device.kv_memory_bytes() == kv_bytes_that_fit("a100-80gb", "gpt-j-6b")


def test_the_number_of_devices_is_as_published_or_as_few_as_hold_the_model() -> None:
    assert simulated_device("a100-80gb", "vicuna-13b").tensor_parallel == 2
    assert simulated_device("h100-80gb", "llama-3.1-70b").tensor_parallel == 2
    assert simulated_device("h100-80gb", "vicuna-13b").tensor_parallel == 1
    four = simulated_device("h100-80gb", "llama-3.1-8b", 4)
    assert four.tensor_parallel == 4
    assert four.kv_memory_bytes() == kv_bytes_that_fit("h100-80gb", "llama-3.1-8b", 4)


def test_a_measured_profile_brings_its_model_and_asks_for_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    device_profile("a100-80gb", "gpt-j-6b").save(path)
    device = simulated_device(str(path))
    assert device.profile.model == "gpt-j-6b"
    with pytest.raises(ValueError, match="give --kv-memory"):
        device.kv_memory_bytes()


@pytest.mark.parametrize(
    ("device", "model", "reason"),
    [
        ("a100", None, "unknown device 'a100'"),
        ("a100-80gb", "gpt-5", "unknown model 'gpt-5'"),
        ("missing.json", None, "missing.json"),
    ],
)
def test_unknown_names_are_refused(device: str, model: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        simulated_device(device, model)


def test_a_measured_profile_is_of_a_number_of_devices_already() -> None:
    with pytest.raises(ValueError, match="leave out --tensor-parallel"):
        simulated_device("profile.json", tensor_parallel=2)


def test_how_many_sessions_arrive_is_said_once() -> None:
    with pytest.raises(ValueError, match="--sessions or --horizon"):
        SimulationSettings(sessions=5, horizon_seconds=60.0)
    assert SimulationSettings(sessions=5).sessions == 5
