"""Clients that have probably gone: nobody says of a client's turn that it was the last.

A session in place is closed, and a finished request is not. Its context is kept in case the
client comes back with more. If it has been away for longer than clients usually are before they
return, it is presumed to be gone: what its session has had is learned from as that of one that is
over, and its context is worth less. It may return all the same, and nothing is lost then.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from caesura.engine.pauses.pause import Pause
from caesura.engine.pauses.table import PauseTable
from caesura.policy.duration import DurationModel

USUAL_SHARE = 0.95
"""Of those that return, so many are back within the usual time."""

PATIENCE = 2.0
"""A client is presumed to be gone after so many times the usual time."""

SHORTEST_SECONDS = 1.0
"""Nobody is presumed to be gone earlier, unless most do not return."""


@dataclass(slots=True, eq=False)
class Presumptions:
    """Presumes of paused clients that they are gone.

    Attributes:
        table: all pauses.
        clock: monotonic seconds.
        gone: what is done with a pause whose client is presumed to be gone.
    """

    table: PauseTable
    clock: Callable[[], float]
    gone: Callable[[Pause], None]
    _durations: DurationModel = field(default_factory=DurationModel, init=False)
    _due: list[tuple[float, str]] = field(default_factory=list, init=False)

    def begin(self, pause: Pause) -> None:
        """A pause begins. Of sessions in place it is known when they are over."""
        if not pause.in_place:
            self._ask_again(pause, self._patience_seconds(pause))

    def returned(self, pause: Pause, seconds: float) -> None:
        """A pause has lasted this long until its tokens arrived."""
        if pause.gone_after_seconds is not None:
            self._durations.forget_gone(pause.endpoint, pause.gone_after_seconds)
        self._durations.observe(pause.endpoint, seconds)

    def review(self) -> None:
        """Presume what is due. Takes no time for pauses that are not due."""
        now = self.clock()
        while self._due and self._due[0][0] <= now:
            _, pause_id = heapq.heappop(self._due)
            pause = self.table.get(pause_id)
            if pause is None or pause.returning or pause.gone_after_seconds is not None:
                continue
            waited_seconds = now - pause.endpoint_since_seconds
            patience_seconds = self._patience_seconds(pause)
            if patience_seconds is None or waited_seconds < patience_seconds:
                self._ask_again(pause, patience_seconds)
                continue
            self._durations.observe_gone(pause.endpoint, waited_seconds)
            self.gone(pause)
            pause.gone_after_seconds = waited_seconds

    def _ask_again(self, pause: Pause, patience_seconds: float | None) -> None:
        since_seconds = pause.endpoint_since_seconds
        if patience_seconds is None:
            patience_seconds = max(SHORTEST_SECONDS, 2 * (self.clock() - since_seconds))
        heapq.heappush(self._due, (since_seconds + patience_seconds, pause.id))

    def _patience_seconds(self, pause: Pause) -> float | None:
        if self._durations.return_probability(pause.endpoint, 0.0) < 0.5:
            return 0.0  # as after final answers, if their users ask nothing more
        usual_seconds = self._durations.usual_seconds(pause.endpoint, USUAL_SHARE)
        return None if usual_seconds is None else max(SHORTEST_SECONDS, PATIENCE * usual_seconds)
