"""How long calls take at best in each mode: the theory that measurements are compared with.

After AsyncLM (Gim, Lee, Zhong, arXiv 2412.07017). Generating is sequential, executing is not
limited, and the answer after the last result is not counted. With `G` the time that a call takes
to generate and `E` the time that it takes to execute, independent calls take

| mode | latency |
|---|---|
| `sync` | `sum G + sum E` |
| `sync_parallel` | `sum G + max E` |
| `async` | `max over calls f of (E(f) + sum of G(g) for each g issued up to f)` |

which in `async` is least when the longest call is issued first. Calls that need results of others
change nothing in `sync`; `sync_parallel` goes round by round, and in `async` a call is not begun
before the results that it needs are there. Where bundles are eager, each call executed from its
end on, a round takes what its calls take in `async`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from caesura.cml import Mode


@dataclass(frozen=True, slots=True)
class CallTimes:
    """A call as it was issued.

    Attributes:
        generation_seconds: `G`.
        execution_seconds: `E`.
        after: positions, in the order of issue, of the calls whose results it needs.
    """

    generation_seconds: float
    execution_seconds: float
    after: tuple[int, ...] = ()


def bound_seconds(mode: Mode, calls: Sequence[CallTimes], *, eager: bool = False) -> float:
    """From the start until the last result is there, if nothing but these times is spent.

    Args:
        mode: in which they are made.
        calls: in the order of issue, which is kept.
        eager: in `sync_parallel`, calls are executed from their ends on.

    Raises:
        ValueError: a call needs a result of one that is issued later.
    """
    for position, call in enumerate(calls):
        if any(needed >= position for needed in call.after):
            raise ValueError(f"call {position} needs a result that it cannot have")
    match mode:
        case Mode.SYNC:
            return sum(call.generation_seconds + call.execution_seconds for call in calls)
        case Mode.SYNC_PARALLEL:
            return sum(map(_eager_seconds if eager else _round_seconds, _rounds(calls)))
        case Mode.ASYNC:
            return _async_seconds(calls)


def _rounds(calls: Sequence[CallTimes]) -> list[list[CallTimes]]:
    """Calls that are executed together: each in the first round in which it can be."""
    numbers: list[int] = []
    for call in calls:
        numbers.append(1 + max((numbers[needed] for needed in call.after), default=-1))
    rounds: list[list[CallTimes]] = [[] for _ in range(max(numbers, default=-1) + 1)]
    for number, call in zip(numbers, calls, strict=True):
        rounds[number].append(call)
    return rounds


def _round_seconds(calls: Sequence[CallTimes]) -> float:
    """All written, then all executed together."""
    written = sum(call.generation_seconds for call in calls)
    return written + max(call.execution_seconds for call in calls)


def _eager_seconds(calls: Sequence[CallTimes]) -> float:
    """Each executed from its end on; what they need is there."""
    return _async_seconds([replace(call, after=()) for call in calls])


def _async_seconds(calls: Sequence[CallTimes]) -> float:
    """Each executed while those after it are written."""
    written = 0.0
    results: list[float] = []
    for call in calls:
        begun = max([written, *(results[needed] for needed in call.after)])
        written = begun + call.generation_seconds
        results.append(written + call.execution_seconds)
    return max(results, default=0.0)
