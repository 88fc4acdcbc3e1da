"""How sessions are served: waits, and whether a service level objective is met.

The *wait* of a turn is its time to first token less what the computation of its tokens takes on a
device that does nothing else: those appended, and the last one of the turn before, which was
sampled but not computed. Time that goes into computing a lost context again is part of the wait.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from caesura.lab.bench.replay import ReplayedSession, ReplayEnding
from caesura.lab.bench.unloaded import Unloaded


@dataclass(frozen=True, slots=True)
class ServiceGoal:
    """A service level objective of sessions.

    Attributes:
        ttft_seconds: time to first token of every turn at most.
        slowdown: mean time per output token, pauses left out, at most as a multiple of what the
            session takes on a device that does nothing else.
    """

    ttft_seconds: float = 2.0
    slowdown: float = 3.0


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What service is measured against.

    Attributes:
        unloaded: times of turns that run alone.
        goal: the objective that goodput asks for.
        shared_prefix_tokens: first tokens of a session that another one has computed.
    """

    unloaded: Unloaded
    goal: ServiceGoal = ServiceGoal()
    shared_prefix_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ServedTurn:
    """A turn that has a token.

    Attributes:
        context_tokens: of its session when the turn begins, appended ones included.
        ttft_seconds: from submission to first token.
        wait_seconds: see above, at least 0.
    """

    context_tokens: int
    ttft_seconds: float
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class ServedSession:
    """A session as it was served.

    Attributes:
        turns: those that have a token, in order.
        output_tokens: over all turns.
        active_seconds: end to end less pauses; None if it did not complete.
        unloaded_seconds: what its turns take one by one on a device that does nothing else.
    """

    turns: tuple[ServedTurn, ...]
    output_tokens: int
    active_seconds: float | None
    unloaded_seconds: float

    def meets(self, goal: ServiceGoal) -> bool:
        """Whether it completed within the objective."""
        if self.active_seconds is None:
            return False
        slow = self.active_seconds > goal.slowdown * self.unloaded_seconds
        return not slow and all(turn.ttft_seconds <= goal.ttft_seconds for turn in self.turns)


def served(session: ReplayedSession, yardstick: Yardstick) -> ServedSession:
    """What a session had of its turns."""
    unloaded = yardstick.unloaded
    turns: list[ServedTurn] = []
    context = computed = 0
    unloaded_seconds = 0.0
    for number, turn in enumerate(session.turns):
        if number == 0:
            computed = min(yardstick.shared_prefix_tokens, turn.append_tokens - 1)
        context += turn.append_tokens
        prefill_seconds = unloaded.prefill_seconds(context - computed, computed)
        unloaded_seconds += prefill_seconds
        if turn.output_tokens:
            unloaded_seconds += unloaded.decode_seconds(turn.output_tokens, context)
        if turn.first_token_at is not None:
            ttft = turn.first_token_at - turn.submitted_at
            turns.append(ServedTurn(context, ttft, max(0.0, ttft - prefill_seconds)))
        context += turn.output_tokens
        computed = context - 1
    return ServedSession(
        tuple(turns),
        sum(turn.output_tokens for turn in session.turns),
        active_seconds(session),
        unloaded_seconds,
    )


def active_seconds(session: ReplayedSession) -> float | None:
    """End to end less pauses as they were; None if the session did not complete."""
    finished_at = session.turns[-1].finished_at if session.turns else None
    if session.ending is not ReplayEnding.COMPLETED or finished_at is None:
        return None
    paused_seconds = sum(
        after.submitted_at - before.finished_at
        for before, after in zip(session.turns, session.turns[1:], strict=False)
        if before.finished_at is not None
    )
    return finished_at - session.arrived_at - paused_seconds


def longest_wait_seconds(sessions: Iterable[ServedSession]) -> float | None:
    """Over all turns."""
    return max((turn.wait_seconds for s in sessions for turn in s.turns), default=None)


def wait_context_correlation(sessions: Iterable[ServedSession]) -> float | None:
    """Over all turns, of the wait with the context at the turn's beginning."""
    turns = [turn for session in sessions for turn in session.turns]
    return correlation(
        [turn.context_tokens for turn in turns], [turn.wait_seconds for turn in turns]
    )


def wait_length_correlation(sessions: Iterable[ServedSession]) -> float | None:
    """Over completed sessions, of the mean wait per turn with the session's output tokens."""
    known = [s for s in sessions if s.turns and s.active_seconds is not None]
    waits = [sum(turn.wait_seconds for turn in s.turns) / len(s.turns) for s in known]
    return correlation([s.output_tokens for s in known], waits)


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's; None for fewer than three pairs, or where one side does not vary."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])
