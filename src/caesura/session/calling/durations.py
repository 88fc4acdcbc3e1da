"""How long calls are expected to take."""

from collections import OrderedDict, deque
from collections.abc import Mapping
from statistics import median
from typing import Protocol

from caesura.cml import Call

_REMEMBERED_CALLS = 32
_REMEMBERED_TOOLS = 1024


class Expectations(Protocol):
    """What is known beforehand about the time that calls take."""

    def expected_seconds(self, call: Call) -> float | None:
        """From the call's `[END]` to its result; None if nothing is known."""
        ...

    def record(self, call: Call, seconds: float) -> None:
        """Note how long a call took."""
        ...


class Durations:
    """`Expectations` by tool: what the tool declares, else the median of its latest calls.

    One is to be shared by the sessions of one owner, and by nobody else: how long tools take
    tells what they are used for.

    Args:
        declared: expected seconds of tools by name.
    """

    def __init__(self, declared: Mapping[str, float] | None = None) -> None:
        self._declared = dict(declared or {})
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def expected_seconds(self, call: Call) -> float | None:
        """See `Expectations.expected_seconds`."""
        if (declared := self._declared.get(call.name)) is not None:
            return declared
        seen = self._seen.get(call.name)
        return median(seen) if seen else None

    def record(self, call: Call, seconds: float) -> None:
        """See `Expectations.record`."""
        if call.name in self._declared:
            return
        self._seen.setdefault(call.name, deque(maxlen=_REMEMBERED_CALLS)).append(seconds)
        self._seen.move_to_end(call.name)
        if len(self._seen) > _REMEMBERED_TOOLS:
            self._seen.popitem(last=False)


def duration_sentence(seconds: float) -> str:
    """A sentence for the end of a tool's description: how long it takes."""
    two_digits = float(f"{seconds:.2g}")
    return f"Takes about {two_digits:g} s."
