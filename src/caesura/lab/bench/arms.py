"""The arms of a comparison: what a name in `--policies` stands for. No vLLM here."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from caesura.policy import make_policy, policy_names

_Round = TypeVar("_Round")
_Arm = TypeVar("_Arm")

BASELINE = "stock"
"""What ratios are against: vLLM as it is, one request per turn."""


class Variant(Enum):
    """How an arm differs from an engine with the settings of its comparison."""

    NONE = "not at all"
    NO_PREFIX_CACHE = "vLLM's prefix caching is off"
    VLLM_OFFLOADING = "vLLM's own offloading to host memory is on"
    UNLIMITED_MEMORY = "device memory holds everything: the limit of what memory can give"


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a comparison.

    Attributes:
        name: as users give it, and as figures have it.
        policy: Caesura's policy; None for vLLM's own scheduler.
        variant: what else is special about it.
    """

    name: str
    policy: str | None
    variant: Variant = Variant.NONE

    @property
    def is_stock(self) -> bool:
        """Whether vLLM's own scheduler runs."""
        return self.policy is None

    @property
    def is_simulated_only(self) -> bool:
        """Whether only a simulation can run it."""
        return self.variant in (Variant.VLLM_OFFLOADING, Variant.UNLIMITED_MEMORY)

    @property
    def needs_host_memory(self) -> bool:
        """Whether it is nothing without memory for copies."""
        return self.policy == "swap" or self.variant is Variant.VLLM_OFFLOADING


STOCK_ARMS = (
    Arm(BASELINE, None),
    Arm("stock-no-cache", None, Variant.NO_PREFIX_CACHE),
    Arm("stock-host", None, Variant.VLLM_OFFLOADING),
)
INFINITE = Arm("infinite", "preserve", Variant.UNLIMITED_MEMORY)

_SPECIAL = {arm.name: arm for arm in (*STOCK_ARMS, INFINITE)}


def arm(name: str) -> Arm:
    """The arm of this name: one of those above, or a policy of Caesura's.

    Raises:
        ValueError: there is none.
    """
    if name in _SPECIAL:
        return _SPECIAL[name]
    make_policy(name)
    return Arm(name, name)


def simulated_names() -> tuple[str, ...]:
    """All arms that a simulation compares by default, in the order of tables."""
    ours = [name for name in policy_names() if name != "end"]
    return (*(one.name for one in STOCK_ARMS), *ours, INFINITE.name)


def interleaved(rounds: Iterable[_Round], arms: Sequence[_Arm]) -> Iterator[tuple[_Round, _Arm]]:
    """Each round with all arms one after the other, which rotate by one from round to round.

    So slow drifts of the machine fall on all arms alike.
    """
    for number, one in enumerate(rounds):
        first = number % len(arms)
        for side in (*arms[first:], *arms[:first]):
            yield one, side
