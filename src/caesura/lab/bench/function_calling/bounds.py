"""How long a case takes at best in each mode, for calls that may depend on each other.

`caesura.cml.latency` has the theory for independent calls. Dependent calls add to it: in `sync`
nothing changes, `sync_parallel` goes round by round, and in `async` a call is not begun before
the results that it needs are there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from caesura.cml import Mode
from caesura.cml.latency import CallTimes, sync_parallel_seconds, sync_seconds


@dataclass(frozen=True, slots=True)
class DependentCall:
    """A call as it was issued.

    Attributes:
        times: to generate and to execute it.
        after: positions, in the order of issue, of the calls whose results it needs.
    """

    times: CallTimes
    after: tuple[int, ...] = ()


def bound_seconds(mode: Mode, calls: Sequence[DependentCall]) -> float:
    """From the start until the last result is there, if nothing but these times is spent.

    Args:
        mode: in which they are made.
        calls: in the order of issue, which is kept.

    Raises:
        ValueError: a call needs a result of one that is issued later.
    """
    for position, call in enumerate(calls):
        if any(needed >= position for needed in call.after):
            raise ValueError(f"call {position} needs a result that it cannot have")
    match mode:
        case Mode.SYNC:
            return sync_seconds([call.times for call in calls])
        case Mode.SYNC_PARALLEL:
            return sum(map(sync_parallel_seconds, _rounds(calls)))
        case Mode.ASYNC:
            return _async_seconds(calls)


def _rounds(calls: Sequence[DependentCall]) -> list[list[CallTimes]]:
    """Calls that are executed together: each in the first round in which it can be."""
    numbers: list[int] = []
    for call in calls:
        numbers.append(1 + max((numbers[needed] for needed in call.after), default=-1))
    rounds: list[list[CallTimes]] = [[] for _ in range(max(numbers, default=-1) + 1)]
    for number, call in zip(numbers, calls, strict=True):
        rounds[number].append(call.times)
    return rounds


def _async_seconds(calls: Sequence[DependentCall]) -> float:
    """`cml.latency.async_seconds`, with calls that wait for results before they are begun."""
    written = 0.0
    results: list[float] = []
    for call in calls:
        begun = max([written, *(results[needed] for needed in call.after)])
        written = begun + call.times.generation_seconds
        results.append(written + call.times.execution_seconds)
    return max(results, default=0.0)
