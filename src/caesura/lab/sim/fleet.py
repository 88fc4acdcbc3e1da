"""Engines side by side in one virtual time: whose turn it is, what each has, which are gone."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from caesura.lab.bench.replay import ReplayError
from caesura.lab.sim.outages import Outage, OutageKind
from caesura.lab.sim.routing import DueTurn, EngineLoads, Router

NEVER = float("inf")

IDLE_SECONDS = 0.002
"""Engines that compute nothing run ahead of the others by so much at most."""


class VirtualEngine(Protocol):
    """An engine with a clock of its own, which its steps advance.

    Attributes:
        now_seconds: its clock.
        steps: iterations so far.
        scheduled_tokens: tokens computed so far.
        pause_ends: when the pauses of requests will be over, for a policy that knows it.
    """

    now_seconds: float
    steps: int
    scheduled_tokens: int
    pause_ends: dict[str, float]

    def next_seconds(self) -> float:
        """Up to when the engine can be left alone; infinite if it has nothing to do."""
        ...

    def reach(self, seconds: float) -> None:
        """Time passes up to this moment, at which something is submitted."""
        ...

    def submit(
        self,
        request_id: str,
        session: str,
        num_tokens: int,
        max_tokens: int,
        *,
        resumable: bool,
        endpoint: str | None = None,
        computed_before: int = 0,
    ) -> None:
        """See `HeadlessEngine.submit`."""
        ...

    def step(self, not_after: float = NEVER) -> list[tuple[str, int, bool]]:
        """See `HeadlessEngine.step`."""
        ...

    def close(self, request_id: str) -> None:
        """A session in place is over, or goes on elsewhere."""
        ...


class Loads:
    """What engines have, by their numbers."""

    def __init__(self, engines: int) -> None:
        self.tokens_in_charge: NDArray[np.int64] = np.zeros(engines, np.int64)
        self.open_turns: NDArray[np.int64] = np.zeros(engines, np.int64)
        self.paused_sessions: NDArray[np.int64] = np.zeros(engines, np.int64)

    def take(self, other: "Loads") -> None:
        """Become equal to others."""
        self.tokens_in_charge[:] = other.tokens_in_charge
        self.open_turns[:] = other.open_turns
        self.paused_sessions[:] = other.paused_sessions


@dataclass(slots=True)
class Routing:
    """Who decides, what they know, and what happens to engines.

    Attributes:
        router: decides.
        stale_seconds: the router looks at the loads so often; 0 for loads as they are.
        outages: engines that go away.
    """

    router: Router
    stale_seconds: float = 0.0
    outages: Sequence[Outage] = field(default_factory=tuple)


class Fleet:
    """The engines and what a router knows of them.

    Args:
        engines: by their numbers.
        routing: who decides.

    Attributes:
        engines: as given.
        loads: as they are.
    """

    def __init__(self, engines: Sequence[VirtualEngine], routing: Routing) -> None:
        self.engines = engines
        self.loads = Loads(len(engines))
        self._router = routing.router
        self._stale_seconds = routing.stale_seconds
        self._seen = Loads(len(engines)) if routing.stale_seconds else self.loads
        self._look_at = routing.stale_seconds or NEVER
        self._outages = sorted(routing.outages)
        self._dead: set[int] = set()
        self._taking: NDArray[np.int64] = np.arange(len(engines))
        self._away: set[int] = set()
        # Engines with something to do, by when they have to be looked after. An entry counts only
        # if it is the engine's latest.
        self._heap: list[tuple[float, int]] = []
        self._keys = [NEVER] * len(engines)

    # Time

    @property
    def next_seconds(self) -> float:
        """When the first engine has to step."""
        heap = self._heap
        while heap and self._keys[heap[0][1]] != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else NEVER

    @property
    def next_change_seconds(self) -> float:
        """When the router looks at the loads, or an engine goes away."""
        outage = self._outages[0].at_seconds if self._outages else NEVER
        return min(self._look_at, outage)

    def step(self, not_after: float) -> tuple[int, list[tuple[str, int, bool]]]:
        """One step of the engine that is furthest behind; its number and what it put out."""
        _, number = heapq.heappop(self._heap)
        self._keys[number] = NEVER
        engine = self.engines[number]
        others = max(self.next_seconds, engine.now_seconds + IDLE_SECONDS)
        outputs = engine.step(min(not_after, others))
        self.look_after(number)
        return number, outputs

    def look_after(self, number: int) -> None:
        """Something happened to an engine: it may have to step, or earlier than before."""
        if number in self._dead:
            return
        key = self.engines[number].next_seconds()
        if key != self._keys[number]:
            self._keys[number] = key
            if key < NEVER:
                heapq.heappush(self._heap, (key, number))

    # Changes

    def change(self) -> Outage | None:
        """What happens at `next_change_seconds`; the outage, if it is one."""
        if self._outages and self._outages[0].at_seconds <= self._look_at:
            outage = self._outages.pop(0)
            self._away.add(outage.engine)
            self._taking = self._taking[self._taking != outage.engine]
            if outage.kind is OutageKind.FAIL:
                self._dead.add(outage.engine)
                self._keys[outage.engine] = NEVER
            return outage
        self._seen.take(self.loads)
        self._look_at += self._stale_seconds
        return None

    def is_dead(self, number: int) -> bool:
        """Whether an engine has failed."""
        return number in self._dead

    # Turns

    def place(
        self, session: str, number: int, context: int, new: int, home: int | None, now: float
    ) -> int:
        """Ask the router for a turn's engine; see `DueTurn`.

        Raises:
            ReplayError: it named none that takes turns.
        """
        at_home = None if home is None or home in self._away else home
        turn = DueTurn(session, number, context, new, at_home, now)
        placed = self._router.place(turn, self._view())
        if placed in self._away or not 0 <= placed < len(self.engines):
            raise ReplayError(
                f"router {type(self._router).__name__} chose engine {placed!r} for turn {number} "
                f"of session {session}: engines {', '.join(map(str, self._taking[:8]))}"
                f"{', ...' if len(self._taking) > 8 else ''} take turns"
            )
        return placed

    def sent(self, context: int, new: int, home: int | None, placed: int) -> None:
        """A turn was sent to an engine, which has its session's context from now on."""
        for loads in (self.loads,) if self._seen is self.loads else (self.loads, self._seen):
            if home is not None:
                loads.tokens_in_charge[home] -= context
            loads.tokens_in_charge[placed] += context + new
            loads.open_turns[placed] += 1

    def _view(self) -> EngineLoads:
        seen, taking = self._seen, self._taking
        if not self._away:
            return EngineLoads(
                taking,
                seen.tokens_in_charge,
                seen.open_turns,
                seen.paused_sessions,
                len(self.engines),
            )
        return EngineLoads(
            taking,
            seen.tokens_in_charge[taking],
            seen.open_turns[taking],
            seen.paused_sessions[taking],
            len(self.engines),
        )
