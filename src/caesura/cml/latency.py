"""How long calls take in each mode: the theory that measurements are compared with.

After AsyncLM (Gim, Lee, Zhong, arXiv 2412.07017). Calls do not depend on each other, generating
is sequential, executing is not limited, and the answer after the last result is not counted. With
`G` the time that a call takes to generate and `E` the time that it takes to execute:

| mode | latency |
|---|---|
| `sync` | `sum G + sum E` |
| `sync_parallel` | `sum G + max E` |
| `async` | `max over calls f of (E(f) + sum of G(g) for each g issued up to f)` |
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallTimes:
    """`G` and `E` of one call."""

    generation_seconds: float
    execution_seconds: float


def sync_seconds(calls: Iterable[CallTimes]) -> float:
    """The calls are written and executed one after the other."""
    return sum(call.generation_seconds + call.execution_seconds for call in calls)


def sync_parallel_seconds(calls: Sequence[CallTimes]) -> float:
    """All calls are written first, then executed together."""
    written = sum(call.generation_seconds for call in calls)
    return written + max((call.execution_seconds for call in calls), default=0.0)
