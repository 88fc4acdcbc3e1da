"""How many tokens sessions will still generate, learned from those that are over.

A session passes *stages* (`Stage`): it arrives with a prompt of some size, and it returns from
pauses for endpoints. Of the sessions that are over we remember how much they generated after
each kind of stage, and how much in all. What a session has ahead of it is distributed as its
kind of stage says, shrunk towards what all sessions say: the predictive distribution of a
Dirichlet process with concentration `k` whose base measure is that of all sessions
(Ferguson 1973, "A Bayesian analysis of some nonparametric problems", section 4),

    X ~ (n * samples of the kind + k * samples of all) / (n + k),

both given what has been generated already. With no sample of the kind it is what all sessions
with so much output had ahead of them, which ranks sessions as attained service does.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from caesura.policy.service import Service

CONCENTRATION = 2.0
"""Samples of a kind that count as much as all sessions do."""

MAX_SAMPLES = 256
"""Of a kind, and of all sessions: the latest, so that what has changed is learned anew."""

MAX_KINDS = 1024
"""Kinds that are remembered; those that were not seen for longest are forgotten first."""

Floats = NDArray[np.float64]
_NONE: Floats = np.empty(0)


@dataclass(slots=True)
class _Samples:
    """The latest values, and the same sorted."""

    _latest: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))
    _sorted: Floats = field(default_factory=lambda: _NONE)
    _stale: bool = False

    def add(self, value: float) -> None:
        self._latest.append(value)
        self._stale = True

    def __len__(self) -> int:
        return len(self._latest)

    def take_back(self, value: float) -> None:
        """As if the value had not been added, if it is not too long ago."""
        with suppress(ValueError):
            self._latest.remove(value)
            self._stale = True

    def above(self, value: float) -> Floats:
        """The values above one, ascending."""
        if self._stale:
            self._sorted = np.sort(np.fromiter(self._latest, float, len(self._latest)))
            self._stale = False
        return self._sorted[np.searchsorted(self._sorted, value, side="right") :]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of the tokens that a session will still generate.

    Attributes:
        tokens: possible values, ascending, shape `(n,)`, above 0.
        weights: their weights, shape `(n,)`; they need not sum to 1.
    """

    tokens: Floats
    weights: Floats

    def mean(self) -> float:
        """The expected number of tokens."""
        return float(self.tokens @ self.weights / self.weights.sum())


@dataclass(slots=True)
class RemainingTokens:
    """Learns the distribution of remaining tokens per kind of stage."""

    concentration: float = CONCENTRATION
    _kinds: OrderedDict[str, _Samples] = field(default_factory=OrderedDict, init=False)
    _totals: _Samples = field(default_factory=_Samples, init=False)
    _observed: int = field(default=0, init=False)

    @property
    def confidence(self) -> float:
        """How much what was learned is worth beside what was not: 0 as long as nothing is known,
        half after the first session that is over, and towards 1 (the rule of succession)."""
        return self._observed / (self._observed + 1)

    @property
    def generation(self) -> int:
        """Changes when twice as much is known as when it changed last."""
        return self._observed.bit_length()

    def observe(self, service: Service) -> None:
        """A session is over. One that generated nothing says nothing."""
        total = service.output_tokens
        if total <= 0:
            return
        self._observed += 1
        self._totals.add(total)
        for stage in service.stages:
            if total > stage.output_tokens:
                self._of(stage.kind).add(total - stage.output_tokens)

    def take_back(self, service: Service) -> None:
        """A session that was observed is not over."""
        total = service.output_tokens
        if total <= 0:
            return
        self._observed = max(0, self._observed - 1)
        self._totals.take_back(total)
        for stage in service.stages:
            if total > stage.output_tokens and stage.kind in self._kinds:
                self._kinds[stage.kind].take_back(total - stage.output_tokens)

    def after(self, service: Service) -> Distribution:
        """What a session has ahead of it; as much as it has had, if none ever had more."""
        had = service.output_tokens
        tokens, weights = [], []
        base_share = 1.0  # of the base measure, what has not been ruled out in this stage
        if service.stages:
            stage = service.stages[-1]
            within = had - stage.output_tokens
            samples = self._kinds.get(stage.kind)
            if samples is not None:
                left = samples.above(within) - within
                tokens.append(left)
                weights.append(np.ones(len(left)))
            at_start = len(self._totals.above(stage.output_tokens))
            base_share = len(self._totals.above(had)) / at_start if at_start else 0.0
        left = self._totals.above(had) - had
        if len(left):
            tokens.append(left)
            weights.append(np.full(len(left), self.concentration * base_share / len(left)))
        if not sum(map(len, tokens)):
            return Distribution(np.array([max(1.0, float(had))]), np.ones(1))
        return _sorted(tokens, weights)

    def _of(self, kind: str) -> _Samples:
        samples = self._kinds.setdefault(kind, _Samples())
        self._kinds.move_to_end(kind)
        if len(self._kinds) > MAX_KINDS:
            self._kinds.popitem(last=False)
        return samples


def _sorted(tokens: Iterable[Floats], weights: Iterable[Floats]) -> Distribution:
    values, counts = np.concatenate(list(tokens)), np.concatenate(list(weights))
    order = np.argsort(values, kind="stable")
    return Distribution(values[order], counts[order])


def gittins_index(
    remaining: Distribution,
    had_tokens: int,
    context_tokens: int,
    restoring_tokens: float,
    mean_context_tokens: float,
) -> float:
    """Expected work per unit of worth of serving a session for the best stretch from here.

    The Gittins index of a job whose size is known by its distribution (Aalto, Ayesta and Righter
    2009, "On the Gittins index in the M/G/1 queue", section 2): the least over `D` of

        E[work until X tokens, at most D, are generated] / E[worth; X <= D].

    Finishing a session is worth `1 / (had + X)`, since its latency counts per token that it
    generates. Work is device memory times time, in tokens of a mean context:
    `X * (context + X / 2) / mean context`, and what restoring the context takes.

    Args:
        remaining: of the session.
        had_tokens: what has been generated for it.
        context_tokens: the size of its context.
        restoring_tokens: see `Turn`.
        mean_context_tokens: of the sessions that are served.

    Returns:
        The square root, which is in tokens: for a session whose `X` is known, and with a context
        of mean size, about `sqrt((had + X) * X)`.
    """
    tokens, weights = remaining.tokens, remaining.weights
    work = tokens * (context_tokens + tokens / 2) / mean_context_tokens + restoring_tokens
    gained = np.cumsum(weights / (had_tokens + tokens))
    finished = np.cumsum(weights)
    spent = np.cumsum(weights * work) + (finished[-1] - finished) * work
    return math.sqrt(float(np.min(spent / gained)))
