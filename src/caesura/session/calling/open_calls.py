"""The calls whose results have not arrived."""

from collections.abc import Iterable
from dataclasses import dataclass

from caesura.cml import Call
from caesura.session.calling.durations import Expectations

_NAMED_TOOLS = 4


@dataclass(slots=True)
class _OpenCall:
    call: Call
    since: float
    expected_seconds: float | None
    is_new: bool

    def remaining_seconds(self, now: float) -> float | None:
        if self.expected_seconds is None:
            return None
        elapsed = now - self.since
        if elapsed < self.expected_seconds:
            return self.expected_seconds - elapsed
        # Longer than expected: durations with long tails last as long again.
        return elapsed


class OpenCalls:
    """The pending calls of a session, and when they are expected back.

    Args:
        expectations: what is known about the time that calls take.
        restored: calls that were issued before this session was opened. Their durations are not
            recorded, since the time of issue is unknown.
        now: seconds of the session's clock.
    """

    def __init__(
        self, expectations: Expectations, restored: Iterable[Call] = (), now: float = 0.0
    ) -> None:
        self._expectations = expectations
        self._calls: dict[str, _OpenCall] = {}
        for call in restored:
            self._add(call, now, is_new=False)

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def ids(self) -> frozenset[str]:
        """Their ids."""
        return frozenset(self._calls)

    def add(self, call: Call, now: float) -> None:
        """A call was issued."""
        self._add(call, now, is_new=True)

    def _add(self, call: Call, now: float, *, is_new: bool) -> None:
        expected_seconds = self._expectations.expected_seconds(call)
        self._calls[call.id] = _OpenCall(call, now, expected_seconds, is_new)

    def take(self, call_id: str, now: float) -> bool:
        """The call's result is there; False if no such call is pending."""
        taken = self._calls.pop(call_id, None)
        if taken is None:
            return False
        if taken.is_new:
            self._expectations.record(taken.call, now - taken.since)
        return True

    def expect(
        self, call_id: str, fraction: float | None, remaining_seconds: float | None, now: float
    ) -> bool:
        """Note a call's progress; False if it says nothing, or no such call is pending."""
        found = self._calls.get(call_id)
        if found is None:
            return False
        elapsed = now - found.since
        if remaining_seconds is not None:
            found.expected_seconds = elapsed + remaining_seconds
        elif fraction:
            found.expected_seconds = elapsed / fraction
        return remaining_seconds is not None or bool(fraction)

    def remaining_seconds(self, now: float, *, until_all: bool) -> float | None:
        """Until the first result, or all, are expected; None if nothing is known."""
        known = [
            remaining
            for one in self._calls.values()
            if (remaining := one.remaining_seconds(now)) is not None
        ]
        if not known:
            return None
        return max(known) if until_all else min(known)

    @property
    def endpoint(self) -> str:
        """What a pause for them waits for: the tools' names, the same for the same set."""
        names = sorted({one.call.name for one in self._calls.values()})
        more = ["..."] if len(names) > _NAMED_TOOLS else []
        return "+".join([*names[:_NAMED_TOOLS], *more])
