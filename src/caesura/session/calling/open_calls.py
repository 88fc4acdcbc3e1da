"""The calls whose results have not arrived."""

from collections.abc import Iterable
from dataclasses import dataclass

from caesura.cml import Call
from caesura.endpoints import HUMAN
from caesura.session.calling.durations import Expectations

_NAMED_TOOLS = 4


@dataclass(slots=True)
class _OpenCall:
    call: Call
    since: float
    expected_seconds: float | None
    is_new: bool
    asking_since: float | None = None  # waits for a human, whose time is not the tool's

    def remaining_seconds(self, now: float) -> float | None:
        if self.expected_seconds is None or self.asking_since is not None:
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
        _stop_asking(taken, now)
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

    def asks(self, call_id: str, for_human: bool, now: float) -> bool:
        """A call waits for a human now, or no longer; False if no such call is pending."""
        found = self._calls.get(call_id)
        if found is None:
            return False
        if not for_human:
            _stop_asking(found, now)
        elif found.asking_since is None:
            found.asking_since = now
        return True

    def remaining_seconds(self, now: float, *, until_all: bool) -> float | None:
        """Until the first result, or all, are expected; None if nothing is known."""
        if until_all and any(one.asking_since is not None for one in self._calls.values()):
            return None
        known = [
            remaining
            for one in self._calls.values()
            if (remaining := one.remaining_seconds(now)) is not None
        ]
        if not known:
            return None
        return max(known) if until_all else min(known)

    def endpoint(self, *, until_all: bool) -> str:
        """What a pause for them waits for: the tools' names, the same for the same set.

        A human, if one is asked for a call without which the pause does not end.
        """
        at_work = {one.call.name for one in self._calls.values() if one.asking_since is None}
        asking = any(one.asking_since is not None for one in self._calls.values())
        if asking and (until_all or not at_work):
            return HUMAN
        names = sorted(at_work)
        more = ["..."] if len(names) > _NAMED_TOOLS else []
        return "+".join([*names[:_NAMED_TOOLS], *more])


def _stop_asking(call: _OpenCall, now: float) -> None:
    if call.asking_since is not None:
        call.since += now - call.asking_since
        call.asking_since = None
