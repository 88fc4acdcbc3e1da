"""What all sessions and the engine do at a moment, sampled once per second."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import REGISTRY, CollectorRegistry

from caesura.server.dashboard.engine_numbers import (
    EngineNumbers,
    ToolNumbers,
    read_engine,
    read_tools,
)
from caesura.session.agent import Agent
from caesura.session.agents import Agents
from caesura.session.errors import StoreUnavailable
from caesura.session.records import Phase

SAMPLE_SECONDS = 1.0


Point = tuple[float | None, ...]
"""A time, then a value per field; None where there was none."""


@dataclass(frozen=True, slots=True)
class Tier:
    """How much is kept.

    Attributes:
        interval_seconds: points are at least this far apart.
        points: so many at most, the newest.
    """

    interval_seconds: float
    points: int


FIFTEEN_MINUTES = Tier(interval_seconds=1.0, points=900)
SIX_HOURS = Tier(interval_seconds=10.0, points=2160)
_JITTER_SECONDS = 0.5


class OverviewHistory:
    """Points in time, in memory.

    Args:
        tiers: from fine to coarse. The finest takes every point.
    """

    def __init__(self, tiers: Sequence[Tier] = (FIFTEEN_MINUTES, SIX_HOURS)) -> None:
        self._tiers = tiers
        self._rings: list[deque[Point]] = [deque(maxlen=tier.points) for tier in tiers]

    def add(self, time_seconds: float, values: Sequence[float | None]) -> None:
        """Take the newest point. Coarser tiers leave points out and average none, so that totals
        stay totals."""
        point: Point = (time_seconds, *values)
        for position, (tier, ring) in enumerate(zip(self._tiers, self._rings, strict=True)):
            due_seconds = tier.interval_seconds - _JITTER_SECONDS
            if position == 0 or not ring or time_seconds - (ring[-1][0] or 0.0) >= due_seconds:
                ring.append(point)

    def since(self, time_seconds: float) -> list[Point]:
        """Points from a time on, the oldest first, each from the finest tier that has it."""
        found: list[Point] = []
        oldest_seconds = float("inf")
        for ring in self._rings:
            older = [p for p in ring if time_seconds <= (p[0] or 0.0) < oldest_seconds]
            found = [*older, *found]
            if ring:
                oldest_seconds = min(oldest_seconds, ring[0][0] or 0.0)
        return found


class Activity(StrEnum):
    """What a session does, for people: each that is open does exactly one of these."""

    GENERATING = "generating"
    CALLING = "calling"  # tools run
    WAITING_FOR_HUMAN = "waiting_for_human"
    IDLE = "idle"
    HELD = "held"  # its user has paused it


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """Sessions that are open, of all owners.

    Attributes:
        open: all of them.
        by_phase: by `session.records.Phase`.
        by_activity: by what they do, for people.
    """

    open: int
    by_phase: Mapping[Phase, int]
    by_activity: Mapping[Activity, int]


@dataclass(frozen=True, slots=True)
class Overview:
    """A moment.

    Attributes:
        time: wall-clock seconds.
        engine: None if no engine with Caesura has reported yet.
        sessions: how many do what.
        approvals_waiting: questions that wait for a human.
        tools: all that are configured.
    """

    time: float
    engine: EngineNumbers | None
    sessions: SessionCounts
    approvals_waiting: int
    tools: tuple[ToolNumbers, ...]


_ENGINE_FIELDS = (
    "running",
    "waiting",
    "returning",
    "holding",
    "copied",
    "dropped",
    "device_tokens",
    "active_tokens",
    "held_tokens",
    "host_tokens",
    "host_used_tokens",
    "found_tokens_total",
    "loaded_tokens_total",
    "recomputed_tokens_total",
    "copied_tokens_total",
    "device_token_seconds_total",
    "held_token_seconds_total",
    "recomputed_token_seconds_total",
    "copied_token_seconds_total",
)
FIELDS = (
    "approvals_waiting",
    *(f"sessions.by_activity.{activity}" for activity in Activity),
    *(f"engine.{field}" for field in _ENGINE_FIELDS),
)
"""What the history keeps, as paths into an overview's JSON."""


class Overviews:
    """Samples of everything, and who follows them.

    Args:
        agents: the sessions; None where the server runs none.
        registry: where the engine's and the tools' metrics are.
        history: where samples are kept.
    """

    def __init__(
        self,
        agents: Agents | None,
        registry: CollectorRegistry = REGISTRY,
        history: OverviewHistory | None = None,
    ) -> None:
        self._agents = agents
        self._registry = registry
        self._history = history or OverviewHistory()
        self._changed = asyncio.Event()
        self._latest: Overview | None = None
        self._over = False

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            with suppress(StoreUnavailable):  # it says so itself, and the next sample is near
                await self.sample()

    def stop(self) -> None:
        """There are no more samples; iterations over them end."""
        self._over = True
        self._changed.set()

    async def latest(self) -> Overview:
        """The newest sample."""
        return self._latest or await self.sample()

    def since(self, seconds: float) -> list[Point]:
        """Points of the last so many seconds, the oldest first; their values are `FIELDS`."""
        newest_seconds = self._latest.time if self._latest is not None else 0.0
        return self._history.since(newest_seconds - seconds)

    async def follow(self) -> AsyncGenerator[Overview, None]:
        """The newest sample, then each new one; a slow reader misses some."""
        while not self._over:
            overview = await self.latest()
            changed = self._changed
            yield overview
            await changed.wait()

    async def sample(self) -> Overview:
        """Take a sample now."""
        agents = self._agents
        waiting = await agents.waiting_questions() if agents is not None else {}
        overview = Overview(
            time=agents.clock() if agents is not None else time.time(),
            engine=read_engine(self._registry),
            sessions=_counts(agents.running if agents is not None else (), waiting),
            approvals_waiting=sum(waiting.values()),
            tools=read_tools(self._registry, agents.tool_names() if agents is not None else ()),
        )
        self._latest = overview
        self._history.add(overview.time, _values(overview))
        self._changed.set()
        self._changed = asyncio.Event()
        return overview


def _counts(agents: Sequence[Agent], waiting: Mapping[str, int]) -> SessionCounts:
    open_agents = [agent for agent in agents if agent.phase is not Phase.ENDED]
    phases = Counter(agent.phase for agent in open_agents)
    activities = Counter(_activity(agent, waiting) for agent in open_agents)
    return SessionCounts(
        open=len(open_agents),
        by_phase={phase: phases[phase] for phase in Phase if phase is not Phase.ENDED},
        by_activity={activity: activities[activity] for activity in Activity},
    )


def _activity(agent: Agent, waiting: Mapping[str, int]) -> Activity:
    if agent.held:
        return Activity.HELD
    if waiting.get(agent.id):
        return Activity.WAITING_FOR_HUMAN
    return Activity(agent.phase.value)


def _values(overview: Overview) -> list[float | None]:
    engine = overview.engine
    in_engine = [getattr(engine, field) if engine is not None else None for field in _ENGINE_FIELDS]
    return [overview.approvals_waiting, *overview.sessions.by_activity.values(), *in_engine]
