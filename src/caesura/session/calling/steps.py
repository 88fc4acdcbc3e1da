"""The next step of a session."""

from caesura.cml import AtEnd, Inject, Mode, Situation, next_step
from caesura.cml.modes import Step
from caesura.session.calling.arrivals import Arrivals
from caesura.session.calling.open_calls import OpenCalls
from caesura.session.calling.reading import Reading


class Steps:
    """Decides from a session's mode, its model's output and its arrivals.

    Args:
        mode: what happens at a call.
        at_end: what happens to calls that are pending when the model ends.
        reading: what the model has written.
        calls: those without a result.
        arrivals: what may be injected.
    """

    def __init__(
        self, mode: Mode, at_end: AtEnd, reading: Reading, calls: OpenCalls, arrivals: Arrivals
    ) -> None:
        self._mode = mode
        self._at_end = at_end
        self._reading = reading
        self._calls = calls
        self._arrivals = arrivals

    @property
    def next(self) -> Step:
        """The step to take now."""
        # In asynchronous mode the engine itself finds the place behind an open frame. In the
        # others a call must not be followed by anything before its result.
        holds_back = self._mode is not Mode.ASYNC and self._reading.monitor.in_critical_section
        situation = Situation(
            self._reading.point, self._calls.ids, bool(self._arrivals.queued), holds_back
        )
        return next_step(self._mode, situation, self._at_end)

    @property
    def is_to_inject(self) -> bool:
        """Whether to inject the queued arrivals now."""
        return isinstance(self.next, Inject)
