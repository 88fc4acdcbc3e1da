"""What an iteration costs, fitted online to the iterations of this engine."""

from caesura.policy import CostModel

DEFAULT_COSTS = CostModel(seconds_per_token=1e-4, seconds_per_iteration=1e-2)


class StepTimer:
    """Least squares of iteration time against query tokens, with exponential forgetting.

    `T_fwd(x) = a * x + c` (InferCept, section 4); until enough iterations of different sizes
    were seen the default is returned, and the model says which it is.
    """

    _DECAY = 0.998
    _MIN_WEIGHT = 20.0
    _LONGEST_SECONDS = 30.0

    def __init__(self) -> None:
        self._weight = 0.0
        self._x = self._y = self._xx = self._xy = 0.0

    def observe(self, query_tokens: int, seconds: float) -> None:
        """Add one iteration. Pauses of the engine itself are not iterations: they are skipped."""
        if query_tokens <= 0 or not 0 < seconds < self._LONGEST_SECONDS:
            return
        for name in ("_weight", "_x", "_y", "_xx", "_xy"):
            setattr(self, name, getattr(self, name) * self._DECAY)
        self._weight += 1.0
        self._x += query_tokens
        self._y += seconds
        self._xx += query_tokens * query_tokens
        self._xy += query_tokens * seconds

    def costs(self) -> CostModel:
        """The fitted model, or the default while there is too little to fit."""
        variance = self._weight * self._xx - self._x * self._x
        if self._weight < self._MIN_WEIGHT or variance <= 1e-6 * self._xx * self._weight:
            return DEFAULT_COSTS
        per_token = (self._weight * self._xy - self._x * self._y) / variance
        per_token = max(per_token, 1e-9)
        per_iteration = max((self._y - per_token * self._x) / self._weight, 0.0)
        return CostModel(per_token, per_iteration, measured=True)
