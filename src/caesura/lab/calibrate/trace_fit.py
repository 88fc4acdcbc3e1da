"""The figures of a device profile under load, fitted to the iterations of a trace. No vLLM here.

A profile that was measured in one process lacks what production adds to each iteration: the
engine's loop, messages to and from the API process, and the cores shared with it.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from caesura.engine.tracing.trace_events import read_trace
from caesura.lab.calibrate.iteration_fit import FIGURES, IterationSample, columns_of, fit_columns
from caesura.policy.profile import DeviceProfile

UNDER_LOAD = "under load"
LOOP_SECONDS = 3e-3
"""Where a trace does not say whether requests ran: iterations that follow within this time are
back to back."""
SLOWEST_SHARE = 0.02  # left out of the fit, not of the mean
STALL_FACTOR = 10  # times the prediction: not an iteration's cost but an accident
COPY_SHARE = 0.5  # an iteration that copied for longer is left out of the fit, not of the mean
MIN_ITERATIONS = 50
ROUNDS = 20

_TRACK = "iterations"
_COUNTER = "requests"
_KINDS = ("decode", "prefill", "mixed")
_ARGS = (
    "query_tokens",
    "prefill_tokens",
    "decode_tokens",
    "recomputed_tokens",
    "requests",
    "context_tokens",
    "attention_pairs",
    "copied_bytes",
)
_SATURATION = "saturation_tokens"
_FROM_BASE = ("kv_bytes_per_token", "link_bytes_per_second")

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LoadedIteration:
    """An iteration of a production run.

    Attributes:
        kind: `decode`, `prefill` (of new tokens or lost ones) or `mixed`.
        sample: what it computed, and its time: until the next one began where that followed
            back to back.
        copied_bytes: by copies of the iteration, both ways, on each rank.
        back_to_back: whether its time is a period of the loop; else it is its own duration.
    """

    kind: str
    sample: IterationSample
    copied_bytes: int
    back_to_back: bool


@dataclass(frozen=True, slots=True)
class Residuals:
    """Predicted against measured, over iterations of one kind, without stalls.

    Attributes:
        kind: of iterations, or `all`.
        count: how many.
        seconds: mean time measured.
        predicted_seconds: mean time that the profile predicts, copies included.
        base_seconds: the same of the base profile.
        median_error: median of absolute relative errors.
        p90_error: nine of ten are at most this.
    """

    kind: str
    count: int
    seconds: float
    predicted_seconds: float
    base_seconds: float
    median_error: float
    p90_error: float


@dataclass(frozen=True, slots=True)
class LoadCalibration:
    """A profile under load, and how it was made.

    Attributes:
        profile: the figures.
        base: where KV size and link are from.
        iterations: how many were read.
        back_to_back: how many of them were timed until the next one began.
        stalls: how many took more than `STALL_FACTOR` times the prediction; left out.
        stall_seconds: their time.
        scale: factor on the fitted figures that makes the mean time that of the trace.
        saturation_is_from_base: a knee of the base profile; else `c / a`.
        residuals: by kind, and of all.
    """

    profile: DeviceProfile
    base: DeviceProfile
    iterations: int
    back_to_back: int
    stalls: int
    stall_seconds: float
    scale: float
    saturation_is_from_base: bool
    residuals: Sequence[Residuals]


@dataclass(slots=True)
class _Process:
    """What a process row of a trace says about iterations; times in microseconds."""

    name: str = ""
    track: int | None = None
    slices: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)  # start, duration
    levels: list[tuple[int, int, int]] = field(default_factory=list)  # time, running, waiting


def policy_of(process: str) -> str:
    """The policy that the name of a process row begins with."""
    return process.removesuffix(" (truncated)").partition(" rate ")[0]


def read_iterations(
    path: Path, policies: Collection[str] = (), *, without: Collection[str] = ()
) -> tuple[list[LoadedIteration], list[str]]:
    """The iterations of a trace.

    Args:
        path: what `caesura bench --trace` wrote, or an engine that serves.
        policies: whose process rows are read; empty for all.
        without: policies that are left out unless they are asked for.

    Returns:
        The iterations, and the names of the process rows that they are of.

    Raises:
        ValueError: not a trace, or it lacks what is needed; the message says what.
    """
    processes = _processes(read_trace(path))
    chosen = [
        process
        for process in processes
        if process.slices
        and (name := policy_of(process.name)) not in (set(without) - set(policies))
        and (not policies or name in policies)
    ]
    missing = sorted(set(policies).difference(policy_of(process.name) for process in chosen))
    if missing or not chosen:
        known = sorted({policy_of(process.name) for process in processes if process.slices})
        what = f"of {', '.join(missing)}" if missing else "of ours"
        raise ValueError(
            f"{path}: no iterations {what} in the trace; it has {', '.join(known) or 'none'}"
        )
    try:
        found = [iteration for process in chosen for iteration in _iterations(process)]
    except KeyError as error:
        raise ValueError(
            f"{path}: its iterations lack {error.args[0]}; record the trace with this version"
        ) from error
    return found, [process.name for process in chosen]


def fit_under_load(
    iterations: Sequence[LoadedIteration], base: DeviceProfile, *, base_has_knee: bool = False
) -> LoadCalibration:
    """Fit what an iteration costs; KV size and link are those of the base profile.

    The slowest iterations are left out of the fit, then all figures are scaled so that the total
    time is that of the trace, without stalls: queues depend on the mean.

    Args:
        iterations: of a production run.
        base: measured on the same machine with the same model.
        base_has_knee: its saturation point is kept; else it is `c / a`.

    Raises:
        ValueError: too few iterations, or they do not say what a token costs.
    """
    if len(iterations) < MIN_ITERATIONS:
        raise ValueError(
            f"{len(iterations)} iterations are too few to fit; a trace needs {MIN_ITERATIONS}"
        )
    columns = columns_of(iteration.sample for iteration in iterations)
    if not columns[:, FIGURES.index("seconds_per_attention_pair")].any():
        raise ValueError(
            "the trace has no prefill of several tokens: what a token costs cannot be told from "
            "what a sequence costs"
        )
    seconds = np.array([iteration.sample.seconds for iteration in iterations])
    copies = np.zeros(len(seconds))
    if not base.link_overlaps:
        copied = np.array([iteration.copied_bytes for iteration in iterations], dtype=float)
        copies = copied / base.link_bytes_per_second
    shape, unknown = _robust_fit(columns, seconds, copies)
    predicted = columns @ shape
    stalled = _stalled(seconds, predicted + copies)
    calm = ~stalled
    scale = float((seconds - copies)[calm].sum() / predicted[calm].sum())
    if scale <= 0:
        raise ValueError(
            "copies over the link of the base profile take longer than the iterations that they "
            "are in: it is of another machine or model"
        )
    figures: dict[str, Any] = dict(zip(FIGURES, map(float, shape * scale), strict=True))
    defaults = set(unknown)
    kept = (*_FROM_BASE, _SATURATION) if base_has_knee else _FROM_BASE
    defaults |= {figure for figure in kept if base.source(figure) != "measured"}
    saturation = figures["seconds_per_iteration"] / figures["seconds_per_query_token"]
    profile = replace(
        base,
        name=f"{base.name.removesuffix(f', {UNDER_LOAD}')}, {UNDER_LOAD}",
        measured=True,
        saturation_tokens=base.saturation_tokens if base_has_knee else max(1, round(saturation)),
        defaults=frozenset(defaults),
        **figures,
    )
    of_base = columns @ np.array([getattr(base, figure) for figure in FIGURES])
    kinds = np.array([iteration.kind for iteration in iterations])
    groups = [(kind, calm & (kinds == kind)) for kind in _KINDS] + [("all", calm)]
    return LoadCalibration(
        profile=profile,
        base=base,
        iterations=len(iterations),
        back_to_back=sum(iteration.back_to_back for iteration in iterations),
        stalls=int(stalled.sum()),
        stall_seconds=float(seconds[stalled].sum()),
        scale=scale,
        saturation_is_from_base=base_has_knee,
        residuals=[
            _residuals(
                kind,
                seconds[chosen],
                (predicted * scale + copies)[chosen],
                (of_base + copies)[chosen],
            )
            for kind, chosen in groups
            if chosen.any()
        ],
    )


def _processes(events: Iterable[dict[str, Any]]) -> list[_Process]:
    """The process rows, in order. Names of tracks come before what is on them."""
    processes: dict[int, _Process] = {}
    for event in events:
        phase, name = event["ph"], event["name"]
        process = processes.setdefault(event.get("pid", 0), _Process())
        if phase == "M" and name == "process_name":
            process.name = event["args"]["name"]
        elif phase == "M" and name == "thread_name" and event["args"]["name"] == _TRACK:
            process.track = event["tid"]
        elif phase == "X" and event["tid"] == process.track:
            process.slices.append((event["ts"], event["dur"], event["args"]))
        elif phase == "C" and name == _COUNTER:
            args = event["args"]
            process.levels.append((event["ts"], args["running"], args["waiting"]))
    return list(processes.values())


def _iterations(process: _Process) -> list[LoadedIteration]:
    """Those of one process row, each with its time.

    The counters say whether requests were left to run when it ended: then the time until the
    next one is the loop's, however long. If some only waited, and if there are no counters, the
    next one must follow at once. If there were none, the engine was idle.
    """
    slices = sorted(process.slices, key=lambda entry: entry[0])
    levels = sorted(process.levels, key=lambda entry: entry[0])
    level = 0
    found = []
    for number, (start, duration, args) in enumerate(slices):
        end = start + duration
        while level < len(levels) and levels[level][0] <= end:
            level += 1
        follows = False
        if number + 1 < len(slices):
            gap = max(0, slices[number + 1][0] - end)
            follows = gap <= LOOP_SECONDS * 1e6
            if level:
                _, running, waiting = levels[level - 1]
                follows = running > 0 or (waiting > 0 and follows)
            if follows:
                duration += gap
        found.append(_iteration(args, duration / 1e6, follows))
    return [iteration for iteration in found if iteration.sample.seconds > 0]


def _iteration(args: dict[str, Any], seconds: float, back_to_back: bool) -> LoadedIteration:
    query, prefill, decode, recomputed, requests, context, pairs, copied = (
        args[name] for name in _ARGS
    )
    computed = prefill + recomputed
    return LoadedIteration(
        kind="mixed" if computed and decode else "prefill" if computed else "decode",
        sample=IterationSample(query, context, requests, pairs, seconds),
        copied_bytes=copied,
        back_to_back=back_to_back,
    )


def _robust_fit(columns: Vector, seconds: Vector, copies: Vector) -> tuple[Vector, frozenset[str]]:
    """The figures, fitted again without the slowest until these are the same.

    Errors are relative to the prediction before, so that noise does not make them too small.
    """
    computing = seconds - copies
    usable = computing >= COPY_SHARE * seconds
    if usable.sum() < MIN_ITERATIONS:
        raise ValueError("nearly all iterations of the trace copied for most of their time")
    kept, unit = usable, None
    for _ in range(ROUNDS):
        relative_to = None if unit is None else unit[kept]
        figures, unknown = fit_columns(columns[kept], computing[kept], relative_to)
        shape = np.array([figures[figure] for figure in FIGURES])
        unit = columns @ shape
        slowness = computing / unit
        limit = np.quantile(slowness[usable], 1 - SLOWEST_SHARE)
        before, kept = kept, usable & (slowness <= limit) & ~_stalled(seconds, unit + copies)
        if np.array_equal(before, kept):
            break
    return shape, unknown


def _stalled(seconds: Vector, predicted: Vector) -> npt.NDArray[np.bool_]:
    return seconds > STALL_FACTOR * predicted


def _residuals(kind: str, seconds: Vector, predicted: Vector, of_base: Vector) -> Residuals:
    errors = np.abs(predicted / seconds - 1)
    return Residuals(
        kind=kind,
        count=len(seconds),
        seconds=float(seconds.mean()),
        predicted_seconds=float(predicted.mean()),
        base_seconds=float(of_base.mean()),
        median_error=float(np.median(errors)),
        p90_error=float(np.quantile(errors, 0.9)),
    )
