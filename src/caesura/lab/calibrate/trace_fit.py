"""The figures of a device profile under load, fitted to the iterations of a trace. No vLLM here.

A profile that was measured in one process lacks what production adds to each iteration: the
engine's loop, messages to and from the API process, and the cores shared with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from caesura.lab.calibrate.iteration_fit import FIGURES, columns_of, fit_columns
from caesura.lab.calibrate.trace_iterations import LoadedIteration
from caesura.policy.profile import DeviceProfile

UNDER_LOAD = "under load"
SLOWEST_SHARE = 0.02  # left out of the fit, not of the mean
STALL_FACTOR = 10  # times the prediction: not an iteration's cost but an accident
COPY_SHARE = 0.5  # an iteration that copied for longer is left out of the fit, not of the mean
MIN_ITERATIONS = 50
ROUNDS = 20

_KINDS = ("decode", "prefill", "mixed")
_SATURATION = "saturation_tokens"
FROM_BASE = ("kv_bytes_per_token", "link_bytes_per_second")

Vector = npt.NDArray[np.float64]


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
    kept = (*FROM_BASE, _SATURATION) if base_has_knee else FROM_BASE
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
