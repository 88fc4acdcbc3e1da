"""Device profiles by name: published measurements, and rooflines from data sheets.

A roofline profile says what an iteration takes at best, times the utilisation assumed below:
computing a token costs two operations per weight, an iteration reads all weights once, and
decoding reads the context of each sequence. Published measurements have no term for the last;
it is added to them from the data sheet.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from caesura.lab.sim.data_sheets import DEVICES, MODELS, DataSheet, Model
from caesura.policy import CostModel
from caesura.policy.profile import DeviceProfile

# Assumptions. With them Llama-3.1-8B on an H100 takes 0.027 ms per token and 5.2 ms per iteration.
COMPUTE_UTILISATION = 0.6  # of peak operations, large matrix products of a prefill
BANDWIDTH_UTILISATION = 0.92  # of peak device memory bandwidth, streaming weights and KV
LINK_UTILISATION = 0.8  # of the link's raw rate, large copies from page-locked memory
EFFICIENCY_PER_DOUBLING = 0.9  # tensor parallel: what all-reduces leave each time it doubles
MEMORY_UTILISATION = 0.9  # vLLM's gpu_memory_utilization

TENSOR_PARALLEL_SIZES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class ReleasedProfile:
    """Constants that the authors measured on one machine and released with their code.

    Attributes:
        costs: `T_fwd`.
        swap_tokens_per_iteration: `N` of an iteration at saturation, both directions together.
        saturation_tokens: `S`.
    """

    costs: CostModel
    swap_tokens_per_iteration: int
    saturation_tokens: int

    def swap_seconds(self, tokens: int) -> float:
        """`T_swap`, linear, with `T_swap(N) = T_fwd(S)`."""
        iteration_seconds = self.costs.forward_seconds(self.saturation_tokens)
        return iteration_seconds * tokens / self.swap_tokens_per_iteration


GPT_J_6B_A100 = ReleasedProfile(
    CostModel(seconds_per_token=0.0463e-3, seconds_per_iteration=10e-3, measured=True),
    swap_tokens_per_iteration=605,
    saturation_tokens=384,
)
VICUNA_13B_2X_A100 = ReleasedProfile(
    CostModel(seconds_per_token=0.0279e-3, seconds_per_iteration=15.4e-3, measured=True),
    swap_tokens_per_iteration=319,
    saturation_tokens=384,
)


def _named(name: str, devices: int) -> str:
    return name if devices == 1 else f"{devices} x {name}"


def _published(model: str, gpus: int, released: ReleasedProfile) -> DeviceProfile:
    """A profile of InferCept's released code (WukLab/InferCept), on A100, as it stands.

    It gives the copies as tokens in and out per iteration. That is the number for the time of
    an iteration at saturation, where both of its models come to 10.0 GB/s. Reading KV has no
    term in it.
    """
    kv_bytes = MODELS[model].kv_bytes_per_token(gpus)
    return DeviceProfile(
        name=_named(PUBLISHED_DEVICE, gpus),
        model=model,
        measured=True,
        seconds_per_iteration=released.costs.seconds_per_iteration,
        seconds_per_query_token=released.costs.seconds_per_token,
        seconds_per_context_token=0.0,
        seconds_per_sequence=0.0,
        saturation_tokens=released.saturation_tokens,
        kv_bytes_per_token=kv_bytes,
        link_bytes_per_second=kv_bytes / released.swap_seconds(1),
        link_overlaps=True,
        defaults=frozenset(
            {
                "seconds_per_context_token",
                "seconds_per_sequence",
                "seconds_per_attention_pair",
                "kv_bytes_per_token",
            }
        ),
    )


PUBLISHED_DEVICE = "a100-80gb-published"
MEASURED_DEVICE = "a100-80gb"
"""The device of the published measurements, with the price of reading KV."""

PUBLISHED = {
    ("gpt-j-6b", 1): _published("gpt-j-6b", 1, GPT_J_6B_A100),
    ("vicuna-13b", 2): _published("vicuna-13b", 2, VICUNA_13B_2X_A100),
}


def device_profile(
    device: str, model: str | None = None, tensor_parallel: int | None = None
) -> DeviceProfile:
    """The profile of a device with a model.

    A published measurement, with reading KV priced by the data sheet, where there is one; else a
    roofline.

    Args:
        device: a name of `DEVICES`, or the path of a file that `caesura calibrate` wrote.
        model: a name of `MODELS`; for a file it may be left out, else it must be the file's.
        tensor_parallel: devices that share the model. By default as published, else as few as
            hold the weights.

    Raises:
        ValueError: unknown names, a file that is no profile, or a model that does not fit.
    """
    if device not in DEVICES and (device.endswith(".json") or Path(device).is_file()):
        profile = DeviceProfile.load(device)
        if model is not None and model != profile.model:
            raise ValueError(f"{device} is the profile of {profile.model!r}, not of {model!r}")
        return profile
    the_device, the_model = _find(device, model)
    assert model is not None
    if tensor_parallel is None:
        tensor_parallel = usual_tensor_parallel(device, model)
    kv_bytes_that_fit(device, model, tensor_parallel)
    published = PUBLISHED.get((model, tensor_parallel))
    if device == PUBLISHED_DEVICE:
        if published is None:
            known = _listed(f"{name} on {devices}" for name, devices in PUBLISHED)
            raise ValueError(
                f"nothing is published of {model} on {tensor_parallel} x {device}, only of "
                f"{known}; for a roofline choose {MEASURED_DEVICE}"
            )
        return published
    profile = roofline(device, the_device, model, the_model, tensor_parallel)
    if device == MEASURED_DEVICE and published is not None:
        return replace(
            published,
            name=profile.name,
            seconds_per_context_token=profile.seconds_per_context_token,
        )
    return profile


def usual_tensor_parallel(device: str, model: str) -> int:
    """How many devices share a model by default: as published, else as few as hold the weights.

    Raises:
        ValueError: unknown names, or a model that does not fit.
    """
    for size in TENSOR_PARALLEL_SIZES:
        if device in (MEASURED_DEVICE, PUBLISHED_DEVICE) and (model, size) in PUBLISHED:
            return size
    return _fewest_devices(device, model)


def roofline(
    device_name: str, device: DataSheet, model_name: str, model: Model, devices: int = 1
) -> DeviceProfile:
    """What devices do with a model, from data sheets and the assumptions above.

    The saturation point is where computing takes as long as reading the weights. Each of several
    devices has its own link, and all-reduces take from the others' speed.
    """
    speedup = devices * EFFICIENCY_PER_DOUBLING ** (devices.bit_length() - 1)
    operations = device.dense_bf16_operations * COMPUTE_UTILISATION * speedup
    bandwidth = device.memory_bandwidth_bytes * BANDWIDTH_UTILISATION * speedup
    kv_bytes = model.kv_bytes_per_token(devices)
    per_token = 2 * model.computing_parameters / operations
    per_iteration = model.weight_bytes / bandwidth
    return DeviceProfile(
        name=_named(device_name, devices),
        model=model_name,
        measured=False,
        seconds_per_iteration=per_iteration,
        seconds_per_query_token=per_token,
        seconds_per_context_token=kv_bytes / bandwidth,
        seconds_per_sequence=0.0,
        saturation_tokens=round(per_iteration / per_token),
        kv_bytes_per_token=kv_bytes,
        link_bytes_per_second=device.link_bytes * LINK_UTILISATION * devices,
        link_overlaps=True,
        # A score and a weighted value: a multiplication and an addition per element for each.
        seconds_per_attention_pair=4 * model.layers * model.query_width / operations,
    )


def kv_bytes_that_fit(device: str, model: str, tensor_parallel: int = 1) -> int:
    """Bytes of KV cache beside the weights, over all devices.

    Raises:
        ValueError: unknown names, or the model does not fit.
    """
    the_device, the_model = _find(device, model)
    if tensor_parallel not in TENSOR_PARALLEL_SIZES:
        raise ValueError(
            f"tensor parallel of {tensor_parallel}: choose {_listed(TENSOR_PARALLEL_SIZES)}"
        )
    usable = int(the_device.memory_bytes * MEMORY_UTILISATION) * tensor_parallel
    if usable <= the_model.weight_bytes:
        fitting = [
            size
            for size in TENSOR_PARALLEL_SIZES
            if the_device.memory_bytes * MEMORY_UTILISATION * size > the_model.weight_bytes
        ]
        advice = f"use tensor parallel of {fitting[0]}" if fitting else "use a larger device"
        raise ValueError(
            f"{model} does not fit on {tensor_parallel} x {device}: its weights take "
            f"{the_model.weight_bytes / 1e9:.1f} GB of {usable / 1e9:.1f} GB; {advice}"
        )
    return usable - the_model.weight_bytes


def _fewest_devices(device: str, model: str) -> int:
    for size in TENSOR_PARALLEL_SIZES:
        try:
            kv_bytes_that_fit(device, model, size)
        except ValueError:
            continue
        return size
    kv_bytes_that_fit(device, model, TENSOR_PARALLEL_SIZES[-1])
    raise AssertionError("unreachable")


def _find(device: str, model: str | None) -> tuple[DataSheet, Model]:
    if device not in DEVICES:
        raise ValueError(
            f"unknown device {device!r}; choose {_listed(DEVICES)}, or give the path of a file "
            "that `caesura calibrate --json PROFILE.json` wrote"
        )
    if model not in MODELS:
        raise ValueError(f"unknown model {model!r}; choose {_listed(MODELS)}")
    return DEVICES[device], MODELS[model]


def _listed(names: Iterable[object]) -> str:
    *most, last = (str(name) for name in names)
    return f"{', '.join(most)} or {last}" if most else last
