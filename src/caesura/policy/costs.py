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
    """

    seconds_per_token: float
    seconds_per_iteration: float
    measured: bool = False
    seconds_per_copied_token: float = 2e-5
    link_measured: bool = False

    def forward_seconds(self, query_tokens: int) -> float:
        """`T_fwd` of an iteration with `query_tokens` tokens."""
        return self.seconds_per_token * query_tokens + self.seconds_per_iteration
