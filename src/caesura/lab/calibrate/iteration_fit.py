"""The figures of a device profile, fitted to measured iterations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

FIGURES = (
    "seconds_per_iteration",
    "seconds_per_query_token",
    "seconds_per_context_token",
    "seconds_per_sequence",
    "seconds_per_attention_pair",
)
KNEE_RATIO = 0.5  # a knee is believed if it at least halves the squared residuals
POINTS_BESIDE_KNEE = 2
KNEES_TRIED = 256
ROUNDING = 1e-15  # squares that differ by less than this share of all are equal: first come


@dataclass(frozen=True, slots=True)
class IterationSample:
    """Iterations of one composition; quantities as in `DeviceProfile.iteration_seconds`.

    Attributes:
        query_tokens: tokens that each computed.
        context_tokens: tokens of all its sequences, with those that it computes; a mean.
        sequences: sequences that it ran.
        attention_pairs: pairs of prefill attention.
        seconds: median of their times.
        repeats: how many were timed.
    """

    query_tokens: int
    context_tokens: float
    sequences: int
    attention_pairs: float
    seconds: float
    repeats: int = 1

    @property
    def decodes(self) -> bool:
        """Each sequence computed one token, after others."""
        return self.query_tokens == self.sequences < self.context_tokens


@dataclass(frozen=True, slots=True)
class Saturation:
    """Saturation point.

    Attributes:
        tokens: query tokens per iteration beyond which its time grows linearly.
        knee: found as a knee in the measured times; else `c / a` of the linear fit.
    """

    tokens: int
    knee: bool


def fit_iterations(samples: Sequence[IterationSample]) -> tuple[dict[str, float], frozenset[str]]:
    """Non-negative least squares of relative errors.

    Returns:
        The figures of `FIGURES`, and the names of those that the samples say nothing about
        (what they belong to did not vary); these are 0.

    Raises:
        ValueError: the times do not grow with the query tokens.
    """
    return fit_columns(columns_of(samples), np.array([s.seconds for s in samples]))


def columns_of(samples: Iterable[IterationSample]) -> Vector:
    """What each of `FIGURES` is multiplied by, a row for each sample."""
    return np.array(
        [[1.0, s.query_tokens, s.context_tokens, s.sequences, s.attention_pairs] for s in samples]
    ).reshape(-1, len(FIGURES))


def fit_columns(
    columns: Vector, seconds: Vector, relative_to: Vector | None = None
) -> tuple[dict[str, float], frozenset[str]]:
    """As `fit_iterations`, with samples as `columns_of` gives them.

    Args:
        columns: a row for each sample.
        seconds: their times.
        relative_to: what errors are relative to; by default the times. Where these are noisy,
            errors relative to a prediction do not favour times that came out short.
    """
    unit = seconds if relative_to is None else relative_to
    unknown = {
        name for index, name in enumerate(FIGURES) if index and np.ptp(columns[:, index]) == 0
    }
    known = [index for index, name in enumerate(FIGURES) if name not in unknown]
    solution = np.zeros(len(FIGURES))
    if known:
        solution[known] = _non_negative(columns[:, known] / unit[:, None], seconds / unit)
    figures = {name: float(value) for name, value in zip(FIGURES, solution, strict=True)}
    if figures["seconds_per_query_token"] <= 0:
        raise ValueError(
            "iteration times do not grow with the number of query tokens: the machine was too "
            "busy or the range too small; calibrate again"
        )
    return figures, frozenset(unknown)


def find_saturation(prefills: Sequence[IterationSample], figures: dict[str, float]) -> Saturation:
    """The saturation point of an engine.

    Its knee `k` where times follow `t0 + m * max(0, x - k)`: flat, then linear. That is believed
    if its squared relative residuals are at most half of those of a straight line, with two
    samples or more on each side. Without a knee it is `c / a`: the query tokens at which
    computing them takes as long as all that an iteration costs without any.

    Args:
        prefills: one chunk each, with nothing before it.
        figures: of the linear fit.
    """
    x = np.array([s.query_tokens for s in prefills], dtype=float)
    seconds = np.array([s.seconds for s in prefills])
    if len(x) > 2 * POINTS_BESIDE_KNEE:
        ordered = np.sort(x)
        knees = np.linspace(
            ordered[POINTS_BESIDE_KNEE - 1], ordered[-POINTS_BESIDE_KNEE], KNEES_TRIED
        )
        residuals = [_residual(np.maximum(0.0, x - knee), seconds) for knee in knees]
        best = int(np.argmin(residuals))
        if residuals[best] < KNEE_RATIO * _residual(x, seconds):
            return Saturation(max(1, round(float(knees[best]))), knee=True)
    ratio = figures["seconds_per_iteration"] / figures["seconds_per_query_token"]
    return Saturation(max(1, round(ratio)), knee=False)


def fit_line(x: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Intercept and slope of `seconds` over `x`, both non-negative, by relative errors."""
    times = np.array(seconds)
    columns = np.column_stack([np.ones(len(times)), np.array(x, dtype=float)])
    intercept, slope = _non_negative(columns / times[:, None])
    return float(intercept), float(slope)


def _residual(x: Vector, seconds: Vector) -> float:
    """Squared relative residual of the best line over `x`."""
    columns = np.column_stack([np.ones(len(x)), x]) / seconds[:, None]
    solution = _non_negative(columns)
    return float(np.sum((columns @ solution - 1.0) ** 2))


def _non_negative(columns: Vector, target: Vector | None = None) -> Vector:
    """The `w >= 0` with the least squares of `columns @ w - target`; the target is 1 by default.

    Exact, by trying which entries are 0: there are five at most. A rotation first leaves as
    many rows as there are columns, so that thousands of samples cost no more than a few.
    """
    count = columns.shape[1]
    scale = np.maximum(np.abs(columns).max(axis=0), np.finfo(float).tiny)
    if target is None:
        target = np.ones(len(columns))
    rotated = np.asarray(np.linalg.qr(np.column_stack([columns / scale, target]), mode="r"))
    columns, target = rotated[:, :-1], rotated[:, -1]
    best, least = np.zeros(count), float(target @ target)
    rounding = ROUNDING * least
    for size in range(1, count + 1):
        for chosen in map(list, combinations(range(count), size)):
            part = columns[:, chosen]
            weights, *_ = np.linalg.lstsq(part, target, rcond=None)
            squares = float(np.sum((part @ weights - target) ** 2))
            if (weights >= 0).all() and squares < least - rounding:
                best, least = np.zeros(count), squares
                best[chosen] = weights / scale[chosen]
    return best
