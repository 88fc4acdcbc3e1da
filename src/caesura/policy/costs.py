"""What computing and copying cost."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CostModel:
    """What an iteration costs: `T_fwd(x) = a * x + c` seconds for `x` query tokens.

    Attributes:
        seconds_per_token: `a`.
        seconds_per_iteration: `c`.
        measured: True when fitted to this engine's iterations, False for defaults.
        seconds_per_copied_token: `T_swap` of one token, one way.
        link_measured: as `measured`, for copies.
        saturation_tokens: query tokens beyond which iterations take longer, as a profile has it.
        copies_used: share of the copies in host memory that sessions come back to.
    """

    seconds_per_token: float
    seconds_per_iteration: float
    measured: bool = False
    seconds_per_copied_token: float = 2e-5
    link_measured: bool = False
    saturation_tokens: int | None = None
    copies_used: float = 1.0

    def forward_seconds(self, query_tokens: int) -> float:
        """`T_fwd` of an iteration with `query_tokens` tokens."""
        return self.seconds_per_token * query_tokens + self.seconds_per_iteration

    def saturation_point(self) -> int:
        """Query tokens beyond which an iteration takes longer: the profile's, or where computing
        them takes as long as everything else in the iteration."""
        if self.saturation_tokens is not None:
            return self.saturation_tokens
        return max(1, round(self.seconds_per_iteration / self.seconds_per_token))

    def copying_pays(self) -> bool:
        """Whether copying a context that has to give way takes less time than computing it again.

        It is copied out in any case, and copied in, instead of computed, if its session comes back
        to it: with `p` the share of copies that are used and `l` seconds per copied token, it pays
        if `a * p > l * (1 + p)`.
        """
        used = self.copies_used
        return self.seconds_per_token * used > self.seconds_per_copied_token * (1 + used)
