"""What an iteration costs, fitted online to the iterations of this engine."""

from dataclasses import replace

from caesura.errors import ConfigurationError
from caesura.policy import CostModel
from caesura.policy.profile import MEASURED, DeviceProfile

DEFAULT_COSTS = CostModel(seconds_per_token=1e-4, seconds_per_iteration=1e-2)


def profiled_costs(path: str | None) -> CostModel:
    """Costs of a device profile that `caesura calibrate` wrote; the default without one.

    Raises:
        ConfigurationError: it cannot be read, or is not a profile.
    """
    if path is None:
        return DEFAULT_COSTS
    try:
        profile = DeviceProfile.load(path)
    except ValueError as error:
        raise ConfigurationError(f"profile: {error}") from error
    return CostModel(
        seconds_per_token=profile.seconds_per_query_token,
        seconds_per_iteration=profile.seconds_per_iteration,
        measured=profile.measured,
        seconds_per_copied_token=profile.copy_seconds(1),
        link_measured=profile.source("link_bytes_per_second") == MEASURED,
        saturation_tokens=profile.saturation_tokens,
    )


class StepTimer:
    """Least squares of iteration time against query tokens, with exponential forgetting.

    `T_fwd(x) = a * x + c` (InferCept, section 4); until enough iterations of different sizes
    were seen the start is returned, and the model says whether it was measured.

    Args:
        start: what is assumed until then.
    """

    _DECAY = 0.998
    _MIN_WEIGHT = 20.0
    _LONGEST_SECONDS = 30.0

    def __init__(self, start: CostModel = DEFAULT_COSTS) -> None:
        self._start = start
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
        """The fitted model, or the start while there is too little to fit."""
        variance = self._weight * self._xx - self._x * self._x
        if self._weight < self._MIN_WEIGHT or variance <= 1e-6 * self._xx * self._weight:
            return self._start
        per_token = (self._weight * self._xy - self._x * self._y) / variance
        per_token = max(per_token, 1e-9)
        per_iteration = max((self._y - per_token * self._x) / self._weight, 0.0)
        return replace(
            self._start,
            seconds_per_token=per_token,
            seconds_per_iteration=per_iteration,
            measured=True,
        )
