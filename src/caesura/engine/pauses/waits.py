"""What paused sessions wait for, how far that has come, and how long it took."""

from collections.abc import Callable
from dataclasses import dataclass, field

from caesura.endpoints import HUMAN
from caesura.engine.guard import Aside
from caesura.engine.metrics import PauseMetrics
from caesura.engine.pauses.pause import Pause, PauseEnding
from caesura.engine.pauses.presumptions import Presumptions
from caesura.engine.pauses.table import PauseTable
from caesura.policy import Policy
from caesura.policy.progress import Progress


@dataclass(slots=True, eq=False)
class Waits:
    """Names, counts and learns from the waits of pauses."""

    table: PauseTable
    policy: Policy
    metrics: PauseMetrics
    clock: Callable[[], float]
    presumptions: Presumptions = field(init=False)
    _changed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.presumptions = Presumptions(self.table, self.clock, self._presume_gone)

    @property
    def changed(self) -> bool:
        """Whether anything was named or reported since the last `take_changed`."""
        return self._changed

    def take_changed(self) -> bool:
        """The same, once."""
        changed, self._changed = self._changed, False
        return changed

    def begin(self, pause: Pause) -> None:
        """A session pauses."""
        pause.predicted_seconds = self._expected_seconds(pause.endpoint)
        self.metrics.count("pauses", labels=(pause.endpoint,))
        with self.metrics.guard(Aside.LEARNING):
            self.presumptions.begin(pause)

    def name_endpoint(self, pause_id: str, endpoint: str) -> None:
        """Name what a session waits for: it paused without a name, or its call waits for a human
        now, or no longer.

        The wait for the old endpoint is counted as ended (`renamed`), and one for the new as
        begun. A human who has answered is learned from, and their time is not the tool's.
        Ignored when the pause is over, or the session returns already.
        """
        pause = self.table.get(pause_id)
        if pause is None or pause.returning or pause.endpoint == endpoint:
            return
        now = self.clock()
        if pause.endpoint == HUMAN:
            self._learn(pause, now)
        self.end(pause, PauseEnding.RENAMED)
        pause.rename(endpoint, now)
        self.begin(pause)
        self._changed = True

    def note_progress(
        self, pause_id: str, fraction: float | None, remaining_seconds: float | None
    ) -> None:
        """What a session waits for has come so far: the share that is done, or the time left.

        Ignored when the pause is over, or the session returns already.
        """
        pause = self.table.get(pause_id)
        if pause is None or pause.returning or (fraction is None and remaining_seconds is None):
            return
        elapsed = self.clock() - pause.endpoint_since_seconds
        if remaining_seconds is not None:
            pause.progress = Progress.from_remaining(elapsed, remaining_seconds)
        elif fraction is not None:
            pause.progress = Progress.from_fraction(elapsed, fraction)
        self.metrics.count("progress_reports", labels=(pause.endpoint,))
        self._changed = True

    def returned(self, pause: Pause) -> None:
        """The tokens that a session waited for have arrived."""
        now = self.clock()
        pause.lasted_seconds = now - pause.paused_seconds
        self._learn(pause, now)

    def resumed(self, pause: Pause) -> None:
        """A session that has returned is scheduled."""
        assert pause.lasted_seconds is not None
        waited_seconds = self.clock() - pause.paused_seconds - pause.lasted_seconds
        with self.metrics.guard(Aside.LEARNING):
            self.policy.resumed(waited_seconds, held=pause.hold is not None)

    def given_up(self, pause: Pause) -> None:
        """A session that has not returned will not come back, as far as is known."""
        if pause.gone_after_seconds is not None:
            return  # known already
        waited_seconds = self.clock() - pause.endpoint_since_seconds
        with self.metrics.guard(Aside.LEARNING):
            self.policy.ended(pause.endpoint, waited_seconds, returned=False)
            if self.policy.order is not None and not pause.in_place:
                self.policy.order.ended(pause.service)  # else its request is over too

    def end(self, pause: Pause, ending: PauseEnding) -> None:
        """A pause is over, or its wait for one endpoint: count it."""
        self.metrics.count("pause_endings", labels=(pause.endpoint, ending))
        waited_seconds = self.clock() - pause.named_seconds
        self.metrics.count("paused_seconds", waited_seconds, labels=(pause.endpoint,))

    def _presume_gone(self, pause: Pause) -> None:
        self.metrics.count("presumptions", labels=("gone",))
        self.given_up(pause)

    def _learn(self, pause: Pause, now: float) -> None:
        """Compare the time that a wait took with what was expected, then let the policy learn."""
        endpoint, waited_seconds = pause.endpoint, now - pause.endpoint_since_seconds
        expected_seconds = self._expected_seconds(endpoint)
        if expected_seconds is not None:
            self.metrics.count("returns", labels=(endpoint,))
            self.metrics.count("predicted_seconds", expected_seconds, labels=(endpoint,))
            self.metrics.count("returned_seconds", waited_seconds, labels=(endpoint,))
        with self.metrics.guard(Aside.LEARNING):
            self.presumptions.returned(pause, waited_seconds)
            if pause.gone_after_seconds is not None:
                self.metrics.count("presumptions", labels=("returned",))
                self.policy.not_gone(endpoint, pause.gone_after_seconds)
                if self.policy.order is not None:
                    self.policy.order.not_ended(pause.service)
            self.policy.ended(endpoint, waited_seconds, returned=True)

    def _expected_seconds(self, endpoint: str) -> float | None:
        with self.metrics.guard(Aside.LEARNING):
            return self.policy.expected_seconds(endpoint)
        return None
