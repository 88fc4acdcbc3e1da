"""Runs made up for tests of what is made from them."""

from caesura.lab.bench.engines import EngineCounters
from caesura.lab.bench.replay import ReplayedSession, ReplayedTurn, ReplayEnding, ReplayRecord
from caesura.lab.bench.service import Yardstick
from caesura.lab.bench.stats import RunOutcome, RunPlan, measure
from caesura.lab.bench.unloaded import MeasuredTimes

YARDSTICK = Yardstick(MeasuredTimes(0.0, 0.001, 0.05, 0.0))
"""1 ms per new token, 50 ms per output token after the first of a turn."""


def turn(submitted_at: float, first_token_at: float, finished_at: float) -> ReplayedTurn:
    return ReplayedTurn(10, 4, submitted_at, first_token_at, finished_at, "calculator", None)


def completed_session(arrived_at: float, latency_seconds: float) -> ReplayedSession:
    """Two turns of 4 tokens that take half of the latency each, around a pause of 1 s."""
    middle = arrived_at + latency_seconds / 2
    end = arrived_at + latency_seconds + 1
    turns = (
        turn(arrived_at, arrived_at + 0.01, middle),
        turn(middle + 1, middle + 1.02, end),
    )
    return ReplayedSession("a", "math", arrived_at, turns, ReplayEnding.COMPLETED)


def cut_session(arrived_at: float) -> ReplayedSession:
    """Its first turn finished; its second one did not begin to generate."""
    turns = (
        turn(arrived_at, arrived_at + 0.1, arrived_at + 0.2),
        ReplayedTurn(10, 0, arrived_at + 0.5, None, None, None, None),
    )
    return ReplayedSession("b", "math", arrived_at, turns, ReplayEnding.TIME_LIMIT)


def unstarted_session(arrived_at: float) -> ReplayedSession:
    return ReplayedSession("c", "math", arrived_at, (), ReplayEnding.TIME_LIMIT)


def replay_of(*sessions: ReplayedSession) -> ReplayRecord:
    return ReplayRecord(sessions, started_at=0.0, finished_at=10.0)


def outcome(
    policy: str,
    seed: int,
    rate: float,
    latency_seconds: float,
    *others: ReplayedSession,
    scheduled_tokens: int | None = None,
) -> RunOutcome:
    plan = RunPlan(policy, seed, rate)
    replay = replay_of(completed_session(0.0, latency_seconds), *others)
    counters = EngineCounters(scheduled_tokens=scheduled_tokens)
    return RunOutcome(plan, replay, measure(plan, replay, counters, YARDSTICK))
