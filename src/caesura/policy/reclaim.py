"""Who may break a hold, and which first (`architecture.md`, section 5, rule 2).

Holds are soft, and ranked. For a demand of

* a **running** request every hold may be broken: work in progress goes first;
* a **waiting** request: holds of sessions that arrived later than its own, and holds past
  break-even; and every hold once nothing runs at all or it has waited `starvation_seconds`.

The last clause states the bound: a request at the head of the queue that fits the pool
starts at the latest `starvation_seconds` after the running requests leave room for it,
however many sessions are paused and however long.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from caesura.policy.types import Action, Demand, Drop, PauseView, Snapshot


@dataclass(frozen=True, slots=True)
class ReclaimRule:
    """Ranks holds for a demand.

    Attributes:
        patience_factor: a hold is past break-even once its pause has lasted this many times
            what computing its context again would take. 1 is the published rule; a study of
            traces found 4 to 16 better, since memory is not the bottleneck all the time.
        patience_floor_seconds: no hold is past break-even before.
        starvation_seconds: after waiting this long a request may break any hold.
    """

    patience_factor: float = 8.0
    patience_floor_seconds: float = 0.5
    starvation_seconds: float = 10.0

    def break_even_seconds(self, pause: PauseView, snapshot: Snapshot) -> float:
        """Length of the pause beyond which holding it costs more than computing it again."""
        recompute_seconds = snapshot.costs.forward_seconds(pause.context_tokens)
        return max(self.patience_floor_seconds, self.patience_factor * recompute_seconds)

    def releases(self, snapshot: Snapshot, demand: Demand) -> Iterator[Action]:
        """Releases that meet the demand, in order; none when they could not meet it."""
        if demand.running or demand.engine_idle or demand.waited_seconds >= self.starvation_seconds:
            return self._everything(snapshot)
        chosen: list[Action] = []
        missing = demand.tokens
        for pause in self._breakable_by_waiting(snapshot, demand):
            chosen.append(release(pause, missing))
            missing -= pause.freeable_tokens()
            if missing <= 0:
                return iter(chosen)
        return iter(())

    def _everything(self, snapshot: Snapshot) -> Iterator[Action]:
        """All holds: paused before returning sessions, past break-even first, then latest."""
        waiting = list(snapshot.pauses.held_latest_arrival_first())
        paused = [pause for pause in waiting if not pause.returning]
        stale = [pause for pause in paused if self._is_past_break_even(pause, snapshot)]
        stale.sort(key=lambda pause: pause.paused_seconds)
        fresh = [pause for pause in paused if not self._is_past_break_even(pause, snapshot)]
        returning = [pause for pause in waiting if pause.returning]
        for pause in (*stale, *fresh, *returning):
            yield Drop(pause.id)

    def _breakable_by_waiting(self, snapshot: Snapshot, demand: Demand) -> Iterator[PauseView]:
        taken: set[str] = set()
        for pause in snapshot.pauses.held_longest_pause_first():
            if pause.returning or pause.id == demand.request_id:
                continue
            if self._is_past_break_even(pause, snapshot):
                taken.add(pause.id)
                yield pause
        for pause in snapshot.pauses.held_latest_arrival_first():
            if pause.arrival_seconds <= demand.arrival_seconds:
                return
            if pause.id not in taken and pause.id != demand.request_id:
                yield pause

    def _is_past_break_even(self, pause: PauseView, snapshot: Snapshot) -> bool:
        elapsed_seconds = snapshot.now_seconds - pause.paused_seconds
        return elapsed_seconds >= self.break_even_seconds(pause, snapshot)


def release(pause: PauseView, missing_tokens: int) -> Drop:
    """Release all of a hold, or, when its tail suffices, only the tail."""
    keep = pause.held_tokens - missing_tokens if pause.freeable_tokens() > missing_tokens else 0
    return Drop(pause.id, keep_tokens=max(0, keep))
