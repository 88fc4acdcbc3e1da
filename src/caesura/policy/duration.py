"""How much longer a pause will last, learned online per endpoint.

Durations are counted in a log-spaced histogram per endpoint and in one pooled over all
endpoints; old observations fade. A histogram at elapsed time `t` knows

* `n(t)`, the observations that lasted longer than `t`, and
* `S(t)`, the share of pauses that last longer than `t` (Kaplan-Meier: pauses that were given
  up count as censored), linear within a bin. Hence the mean remaining time
  `m(t) = integral of S from t on / S(t)`.

What is told about a pause at `t` backs off, from endpoint to pool to prior, by how many
observations got as far as `t` rather than by how many there are:

    pooled(t)   = (n_pool(t) * m_pool(t) + k_pool * prior(t)) / (n_pool(t) + k_pool)
    expected(t) = (m(t)^n(t) * pooled(t)^k)^(1 / (n(t) + k))

The second mean is geometric because endpoints differ by orders of magnitude: with the
arithmetic one, a pool of minutes would outweigh a hundred calls that took microseconds.

The prior is the elapsed-time rule, `prior(t) = t`: it is the mean remaining time of a Pareto
distribution with exponent 2, which also gives the prior of the survival, `(t / (t + h))^2`. Past
its longest observation an endpoint follows the pool, and past the longest of all that rule.

Survival and return probability back off alike, with arithmetic means at both levels. All
times are seconds.
"""

import math
from array import array
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHORTEST_SECONDS = 1e-5
LONGEST_SECONDS = 6 * 3600.0

_BINS_PER_DECADE = 24
_BINS = 1 + math.ceil(_BINS_PER_DECADE * math.log10(LONGEST_SECONDS / SHORTEST_SECONDS))
_EDGES = [0.0, *(SHORTEST_SECONDS * 10 ** (i / _BINS_PER_DECADE) for i in range(_BINS))]
_WIDTHS = np.diff(_EDGES)

_ENDPOINT_BACKOFF = 1.0  # k: this many observations weigh as much as the pool
_POOL_BACKOFF = 8.0  # k_pool: other endpoints say less about this one
_PRIOR_RETURN_PROBABILITY = 0.95
_FADED = 1e-6  # a count below this is zero
_STALE_SHARE = 0.02  # tables are computed again after this share of new observations

_RETURNED, _GONE = 0, 1


class DurationModel:
    """Online estimates of the remaining time of pauses.

    A query takes microseconds, whatever the number of observations: it reads tables, which are
    computed again whenever 2 % of the observations of a histogram are new. Queries change
    nothing, so the answers depend on the observations and their order only.

    Args:
        memory_observations: an observation loses a factor `e` in weight over this many later
            ones of its endpoint (in the pool: over four times as many).
        max_endpoints: beyond, the endpoint that was observed least recently is forgotten.
    """

    def __init__(self, memory_observations: float = 256.0, max_endpoints: int = 1024) -> None:
        if memory_observations <= 0 or max_endpoints <= 0:
            raise ValueError("memory_observations and max_endpoints must be positive")
        self._memory = memory_observations
        self._max_endpoints = max_endpoints
        self._pool = _Histogram(4 * memory_observations)
        self._endpoints: dict[str, _Histogram] = {}  # least recently observed first
        self._nothing = _Histogram(memory_observations).table

    def observe(self, endpoint: str, seconds: float) -> None:
        """A pause ended: what it waited for arrived after `seconds`."""
        self._add(endpoint, _RETURNED, seconds)

    def observe_gone(self, endpoint: str, seconds: float) -> None:
        """A pause was given up after `seconds` (closed, forgotten): it would have been longer."""
        self._add(endpoint, _GONE, seconds)

    def forget_gone(self, endpoint: str, seconds: float) -> None:
        """A pause that was given up after `seconds` comes back after all: it was not given up."""
        for histogram in (self._endpoints.get(endpoint), self._pool):
            if histogram is not None:
                histogram.take_back(_GONE, seconds)

    def usual_seconds(self, endpoint: str, share: float) -> float | None:
        """Within which time this share of the pauses that return has returned: of the endpoint,
        or, as long as too few are known there, of all. None as long as too few are known at all."""
        for histogram in (self._endpoints.get(endpoint), self._pool):
            if histogram is not None and histogram.table.returning[0] >= _POOL_BACKOFF:
                return histogram.table.returned_within(share)
        return None

    def expected_remaining_seconds(self, endpoint: str, elapsed_seconds: float) -> float:
        """Mean remaining time of a pause that has lasted `elapsed_seconds`."""
        elapsed = max(0.0, elapsed_seconds)
        pooled = max(elapsed, SHORTEST_SECONDS)
        weight, own = self._pool.table.remaining(elapsed)
        if weight > 0.0:
            pooled = _mix(own, weight, pooled, _POOL_BACKOFF)
        weight, own = self._table(endpoint).remaining(elapsed)
        if weight > 0.0 < own:
            return pooled * math.pow(own / pooled, weight / (weight + _ENDPOINT_BACKOFF))
        return pooled

    def survival(self, endpoint: str, elapsed_seconds: float, horizon_seconds: float) -> float:
        """Probability that a pause that has lasted `elapsed_seconds` lasts `horizon_seconds`
        more. Does not rise with the horizon; 1 for none."""
        elapsed, horizon = max(0.0, elapsed_seconds), max(0.0, horizon_seconds)
        scale = max(elapsed, SHORTEST_SECONDS)
        prior = (scale / (scale + horizon)) ** 2
        pooled = self._pool.table.survival_ratio(elapsed, horizon, prior, _POOL_BACKOFF)
        table = self._table(endpoint)
        return table.survival_ratio(elapsed, horizon, pooled, _ENDPOINT_BACKOFF)

    def return_probability(self, endpoint: str, elapsed_seconds: float) -> float:
        """Probability that a pause that has lasted `elapsed_seconds` ends by a return, not by
        being given up: the share of returns among the observations that lasted longer."""
        elapsed = max(0.0, elapsed_seconds)
        pooled = self._pool.table.return_share(elapsed, _PRIOR_RETURN_PROBABILITY, _POOL_BACKOFF)
        return self._table(endpoint).return_share(elapsed, pooled, _ENDPOINT_BACKOFF)

    def _table(self, endpoint: str) -> "_Table":
        histogram = self._endpoints.get(endpoint)
        return self._nothing if histogram is None else histogram.table

    def _add(self, endpoint: str, ending: int, seconds: float) -> None:
        if not 0.0 <= seconds < math.inf:
            raise ValueError(f"a pause lasts a finite time >= 0, not {seconds} s")
        histogram = self._endpoints.pop(endpoint, None) or _Histogram(self._memory)
        self._endpoints[endpoint] = histogram
        if len(self._endpoints) > self._max_endpoints:
            del self._endpoints[next(iter(self._endpoints))]
        histogram.add(ending, seconds)
        self._pool.add(ending, seconds)


class _Histogram:
    """Fading counts of durations, by ending and bin: shape (2, _BINS).

    Attributes:
        table: what they say, but for the latest few.
    """

    __slots__ = ("_counts", "_decay", "_new", "_weight", "table")

    def __init__(self, memory_observations: float) -> None:
        self._decay = math.exp(-1.0 / memory_observations)
        self._counts = np.zeros((2, _BINS))
        self._weight = 0.0
        self._new = 0
        self.table = _Table.of(self._counts)

    def add(self, ending: int, seconds: float) -> None:
        self._counts *= self._decay
        self._counts[ending, min(_bin(seconds), _BINS - 1)] += 1.0
        self._weight = self._weight * self._decay + 1.0
        self._new += 1
        self._renew()

    def take_back(self, ending: int, seconds: float) -> None:
        """As if one had not been added; it has faded by now, and so has the rest."""
        i = min(_bin(seconds), _BINS - 1)
        self._counts[ending, i] = max(0.0, self._counts[ending, i] - 1.0)
        self._new += 1
        self._renew()

    def _renew(self) -> None:
        if self._new >= _STALE_SHARE * self._weight:
            self._counts[self._counts < _FADED] = 0.0
            self.table = _Table.of(self._counts)
            self._new = 0


@dataclass(frozen=True, slots=True)
class _Table:
    """What a histogram says, at the lower edge of each bin and at the end of the last.

    Attributes:
        at_risk: `n`: observations that lasted longer.
        returning: those of them that returned.
        survival: `S`.
        area: integral of `S` from here on, seconds.
    """

    at_risk: "array[float]"
    returning: "array[float]"
    survival: "array[float]"
    area: "array[float]"

    @classmethod
    def of(cls, counts: NDArray[np.float64]) -> "_Table":
        """Tables from counts of shape (2, _BINS).

        Of those given up within a bin half are exposed to its returns (the actuarial
        estimate). Past the last observation `S` is zero, whichever way that one ended (Efron).
        """
        at_risk = _sum_from_right(counts.sum(axis=0))
        exposed = at_risk[:-1] - counts[_GONE] / 2
        hazard = np.divide(counts[_RETURNED], exposed, out=np.zeros(_BINS), where=exposed > 0)
        survival = np.concatenate(([1.0], np.cumprod(1.0 - hazard)))
        survival[at_risk == 0.0] = 0.0
        area = _sum_from_right((survival[:-1] + survival[1:]) / 2 * _WIDTHS)
        returning = _sum_from_right(counts[_RETURNED])
        columns = (at_risk, returning, survival, area)
        return cls(*(array("d", column.tobytes()) for column in columns))

    def remaining(self, elapsed: float) -> tuple[float, float]:
        """How many observations lasted longer, and the mean of what remained of them."""
        i = _bin(elapsed)
        if i >= _BINS:
            return 0.0, 0.0
        share = _share_above(elapsed, i)
        survival = _between(self.survival, i, share)
        if survival <= 0.0:
            return 0.0, 0.0
        rest_of_bin = (survival + self.survival[i + 1]) / 2 * (_EDGES[i + 1] - elapsed)
        return _between(self.at_risk, i, share), (self.area[i + 1] + rest_of_bin) / survival

    def survival_ratio(
        self, elapsed: float, horizon: float, otherwise: float, backoff: float
    ) -> float:
        """`S(elapsed + horizon) / S(elapsed)`, mixed with what is said otherwise."""
        i = _bin(elapsed)
        if i >= _BINS:
            return otherwise
        share = _share_above(elapsed, i)
        survival = _between(self.survival, i, share)
        if survival <= 0.0:
            return otherwise
        later = elapsed + horizon
        j = _bin(later)
        later_survival = _between(self.survival, j, _share_above(later, j)) if j < _BINS else 0.0
        own = later_survival / survival
        return _mix(own, _between(self.at_risk, i, share), otherwise, backoff)

    def returned_within(self, share: float) -> float:
        """The upper edge of the bin in which this share of the returns is reached."""
        left = (1.0 - share) * self.returning[0]
        i = next(i for i, returning in enumerate(self.returning) if returning <= left)
        return _EDGES[i]

    def return_share(self, elapsed: float, otherwise: float, backoff: float) -> float:
        """Share of returns among longer observations, mixed with what is said otherwise."""
        i = _bin(elapsed)
        if i >= _BINS:
            return otherwise
        share = _share_above(elapsed, i)
        returning = _between(self.returning, i, share)
        return (returning + backoff * otherwise) / (_between(self.at_risk, i, share) + backoff)


def _bin(seconds: float) -> int:
    """The bin that holds a duration; `_BINS` or more beyond the last."""
    return bisect_right(_EDGES, seconds) - 1


def _share_above(seconds: float, i: int) -> float:
    """The part of bin `i` that lies above a duration in it."""
    return (_EDGES[i + 1] - seconds) / (_EDGES[i + 1] - _EDGES[i])


def _between(values: "array[float]", i: int, share_above: float) -> float:
    """Linear within bin `i`; `values` are at edges."""
    return values[i + 1] + share_above * (values[i] - values[i + 1])


def _mix(own: float, weight: float, otherwise: float, backoff: float) -> float:
    return (weight * own + backoff * otherwise) / (weight + backoff)


def _sum_from_right(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """At each edge the sum of the bins above: one element longer, the last zero."""
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)
