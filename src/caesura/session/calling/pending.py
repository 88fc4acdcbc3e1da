"""The calls whose results have not arrived."""

from collections.abc import Iterator
from dataclasses import dataclass

from caesura.cml import Call
from caesura.session.calling.durations import Expectations

_NAMED_TOOLS = 4


@dataclass(slots=True)
class _PendingCall:
    call: Call
    issued_at: float
    expected_seconds: float | None

    def remaining_seconds(self, now: float) -> float | None:
        if self.expected_seconds is None:
            return None
        elapsed = now - self.issued_at
        if elapsed < self.expected_seconds:
            return self.expected_seconds - elapsed
        # Longer than expected: durations with long tails last as long again.
        return elapsed


class PendingCalls:
    """The pending calls of a session, and when they are expected back.

    Args:
        expectations: what is known about the time that calls take.
    """

    def __init__(self, expectations: Expectations) -> None:
        self._expectations = expectations
        self._calls: dict[str, _PendingCall] = {}

    def __iter__(self) -> Iterator[Call]:
        return (pending.call for pending in self._calls.values())

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def ids(self) -> frozenset[str]:
        """Their ids."""
        return frozenset(self._calls)

    def add(self, call: Call, now: float) -> None:
        """A call was issued."""
        self._calls[call.id] = _PendingCall(call, now, self._expectations.expected_seconds(call))

    def take(self, call_id: str, now: float, *, completed: bool = True) -> bool:
        """The call's result is there; False if no such call is pending."""
        pending = self._calls.pop(call_id, None)
        if pending is None:
            return False
        if completed:
            self._expectations.record(pending.call, now - pending.issued_at)
        return True

    def expect(self, call_id: str, remaining_seconds: float, now: float) -> bool:
        """A tool says how long its call will still take; False if no such call is pending."""
        pending = self._calls.get(call_id)
        if pending is None:
            return False
        pending.expected_seconds = now - pending.issued_at + remaining_seconds
        return True

    def remaining_seconds(self, now: float, *, until_all: bool) -> float | None:
        """Until the first result, or all, are expected; None if nothing is known."""
        known = [
            remaining
            for pending in self._calls.values()
            if (remaining := pending.remaining_seconds(now)) is not None
        ]
        if not known:
            return None
        return max(known) if until_all else min(known)

    @property
    def endpoint(self) -> str:
        """What a pause for them waits for: the tools' names, the same for the same set."""
        names = sorted({pending.call.name for pending in self._calls.values()})
        more = ["..."] if len(names) > _NAMED_TOOLS else []
        return "+".join([*names[:_NAMED_TOOLS], *more])
