import itertools
from pathlib import Path

import pytest

from caesura.lab.sim.data_sheets import DEVICES, MODELS
from caesura.lab.sim.profiles import (
    BANDWIDTH_UTILISATION,
    MEASURED_DEVICE,
    PUBLISHED,
    PUBLISHED_DEVICE,
    device_profile,
    kv_bytes_that_fit,
)


@pytest.mark.parametrize(
    ("model", "a_ms", "c_ms", "devices"),
    [("gpt-j-6b", 0.0463, 10.0, 1), ("vicuna-13b", 0.0279, 15.4, 2)],
)
def test_the_published_constants_are_the_default(
    model: str, a_ms: float, c_ms: float, devices: int
) -> None:
    profile = device_profile("a100-80gb", model)
    assert profile == device_profile("a100-80gb", model, devices)
    assert profile.measured
    assert profile.seconds_per_query_token == pytest.approx(a_ms / 1e3)
    assert profile.seconds_per_iteration == pytest.approx(c_ms / 1e3)
    assert profile.saturation_tokens == 384


@pytest.mark.parametrize(("model", "tokens"), [("gpt-j-6b", 605), ("vicuna-13b", 319)])
def test_the_published_swap_limit_is_what_fits_in_a_saturated_iteration(
    model: str, tokens: int
) -> None:
    profile = device_profile("a100-80gb", model)
    saturated = profile.iteration_seconds(profile.saturation_tokens)
    assert profile.copy_seconds(tokens) == pytest.approx(saturated)
    assert profile.link_bytes_per_second == pytest.approx(10e9, rel=0.01)


def test_reading_kv_has_a_price_on_every_device() -> None:
    for device, model in itertools.product(DEVICES, MODELS):
        if device == PUBLISHED_DEVICE:
            continue
        profile = device_profile(device, model, 8)
        speed = DEVICES[device].memory_bandwidth_bytes * BANDWIDTH_UTILISATION * 8 * 0.9**3
        expected = profile.kv_bytes_per_token / speed
        assert profile.seconds_per_context_token == pytest.approx(expected), (device, model)


def test_reading_kv_has_a_price_beside_the_published_constants() -> None:
    profile = device_profile("a100-80gb", "gpt-j-6b")
    # 458,752 bytes per token at 2.039 TB/s x 0.92: 24.5 ms for a full pool of 100,000 tokens.
    assert profile.seconds_per_context_token == pytest.approx(0.2446e-6, rel=1e-3)
    assert profile.source("seconds_per_context_token") == "default"
    vicuna = device_profile("a100-80gb", "vicuna-13b")
    assert vicuna.seconds_per_context_token == pytest.approx(819200 / (2.039e12 * 0.92 * 1.8))


def test_the_published_constants_alone_are_a_device_of_their_own() -> None:
    for model, devices in PUBLISHED:
        profile = device_profile(PUBLISHED_DEVICE, model)
        assert profile.seconds_per_context_token == 0
        priced = device_profile(MEASURED_DEVICE, model)
        assert priced.seconds_per_query_token == profile.seconds_per_query_token
        assert priced.link_bytes_per_second == profile.link_bytes_per_second
        assert (devices == 1) == (profile.name == PUBLISHED_DEVICE)
    with pytest.raises(ValueError, match="gpt-j-6b on 1 or vicuna-13b on 2"):
        device_profile(PUBLISHED_DEVICE, "gpt-j-6b", 2)


@pytest.mark.parametrize(
    ("model", "kib"),
    [
        ("gpt-j-6b", 448),
        ("vicuna-13b", 800),
        ("llama-3.1-8b", 128),
        ("llama-3.1-70b", 320),
        ("qwen3-8b", 144),
        ("qwen3-32b", 256),
        ("qwen3-coder-30b-a3b", 96),
        ("glm-4.5-air", 184),
    ],
)
def test_kv_sizes_are_those_of_the_architectures(model: str, kib: int) -> None:
    assert MODELS[model].kv_bytes_per_token() == kib * 1024
    assert device_profile("h200", model).kv_bytes_per_token == kib * 1024


def test_devices_beyond_the_kv_heads_have_copies_of_them() -> None:
    model = MODELS["qwen3-coder-30b-a3b"]  # four KV heads
    assert model.kv_bytes_per_token(4) == model.kv_bytes_per_token()
    assert model.kv_bytes_per_token(8) == 2 * model.kv_bytes_per_token()


def test_of_a_mixture_of_experts_some_compute_and_all_are_read() -> None:
    dense, mixture = (device_profile("h200", name) for name in ("qwen3-32b", "qwen3-coder-30b-a3b"))
    assert mixture.seconds_per_query_token < dense.seconds_per_query_token / 9
    assert mixture.seconds_per_iteration > dense.seconds_per_iteration * 0.9


def test_the_roofline_of_llama_on_an_h100() -> None:
    profile = device_profile("h100-80gb", "llama-3.1-8b")
    assert not profile.measured
    assert profile.seconds_per_query_token == pytest.approx(0.0269e-3, rel=0.1)
    assert profile.seconds_per_iteration == pytest.approx(5e-3, rel=0.1)
    assert profile.link_overlaps


def test_a_published_model_on_other_devices_is_a_roofline() -> None:
    assert not device_profile("a100-80gb", "gpt-j-6b", 2).measured
    assert not device_profile("a100-80gb", "vicuna-13b", 1).measured
    assert not device_profile("h100-80gb", "gpt-j-6b").measured


@pytest.mark.parametrize("device", sorted(DEVICES.keys() - {PUBLISHED_DEVICE}))
@pytest.mark.parametrize("model", sorted(MODELS.keys() - {"glm-4.5-air", "qwen3-coder-30b-a3b"}))
def test_more_devices_are_faster_by_less_than_their_number(device: str, model: str) -> None:
    two, four = (device_profile(device, model, size) for size in (4, 8))
    for figure in ("seconds_per_iteration", "seconds_per_query_token"):
        assert 1 < getattr(two, figure) / getattr(four, figure) < 2
    assert four.link_bytes_per_second == pytest.approx(2 * two.link_bytes_per_second)
    assert four.kv_bytes_per_token == two.kv_bytes_per_token


def test_by_default_as_few_devices_as_hold_the_weights() -> None:
    assert device_profile("h100-80gb", "llama-3.1-8b").name == "h100-80gb"
    assert device_profile("h100-80gb", "llama-3.1-70b").name == "2 x h100-80gb"


def test_kv_memory_is_what_the_weights_leave() -> None:
    assert kv_bytes_that_fit("h100-80gb", "llama-3.1-8b") == pytest.approx(55.9e9, rel=0.01)
    assert kv_bytes_that_fit("h200", "llama-3.1-70b", 2) == pytest.approx(112.7e9, rel=0.01)


def test_a_model_that_does_not_fit_is_refused_with_what_would() -> None:
    for ask in (kv_bytes_that_fit, device_profile):
        with pytest.raises(ValueError, match=r"does not fit on 1 x h200.*tensor parallel of 2"):
            ask("h200", "llama-3.1-70b", 1)


def test_unknown_names_are_refused_with_what_exists() -> None:
    with pytest.raises(ValueError, match="h200, l40s or mi300x"):
        device_profile("b200", "llama-3.1-8b")
    with pytest.raises(ValueError, match=r"qwen3-coder-30b-a3b or glm-4\.5-air"):
        device_profile("h200", "gpt-5")
    with pytest.raises(ValueError, match="1, 2, 4 or 8"):
        device_profile("h200", "llama-3.1-8b", 3)


def test_a_file_is_a_device_too(tmp_path: Path) -> None:
    profile = device_profile("h200", "llama-3.1-8b")
    path = tmp_path / "mine.json"
    profile.save(path)
    assert device_profile(str(path)) == profile
    assert device_profile(str(path), "llama-3.1-8b") == profile
    with pytest.raises(ValueError, match=r"is the profile of 'llama-3\.1-8b'"):
        device_profile(str(path), "gpt-j-6b")
    with pytest.raises(ValueError, match=r"absent\.json"):
        device_profile(str(tmp_path / "absent.json"))
