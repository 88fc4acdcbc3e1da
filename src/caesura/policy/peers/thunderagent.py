"""ThunderAgent's admission of programs (arXiv 2602.13692; ThunderAgent-org/ThunderAgent).

A program is *active* or *paused*. Active ones are those that the engine generates for, and those
whose tool runs; their contexts, and a buffer for each program, must fit the memory. What is not
active waits outside of the engine.

* Every `CHECK_SECONDS`, while active programs exceed the memory: pause those whose tool runs, the
  smallest first ("shortest-first eviction").
* While there is room, programs become active: those that come back from a tool, then new ones, then
  those whose tool runs; the smallest first in each group. A program that has waited for
  `FORCED_SECONDS` becomes active in any case.

Here holds are the contexts of active programs whose tool runs: nobody else may take their memory,
so that a request which does not fit waits as in the router's queue. Of the released code's
constants two are taken as they are (5 s, 30 minutes); the buffer of 256 tokens is that of an early
version. A program whose tool runs becomes active only when it comes back, since it needs memory
only then. Where the published router would overcommit and leave the choice to the engine's
eviction, the smallest program whose tool runs is paused: for a running request, for an active one
whose tool result does not fit, and when nothing runs at all. A client that runs its own tools
comes back with a request of another name: if it does not fit, it waits as a new one does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from caesura.policy.order import UNKNOWN_TURN, OrderDefaults
from caesura.policy.service import Service, Turn
from caesura.policy.types import (
    Action,
    Demand,
    Drop,
    Keep,
    PauseView,
    Plan,
    PolicyDefaults,
    Snapshot,
)

CHECK_SECONDS = 5.0
FORCED_SECONDS = 1800.0
BUFFER_TOKENS = 256

_GROUP = 1e9
"""Ranks of one group are this far from those of the next: more than contexts have tokens."""


@dataclass(frozen=True, slots=True)
class SmallestFirst(OrderDefaults):
    """Active programs by arrival, then those that come back, then new ones, smallest first."""

    ranks_everyone: ClassVar[bool] = True
    displacement_margin_seconds: ClassVar[float | None] = None

    def rank(self, service: Service, turn: Turn = UNKNOWN_TURN) -> float:
        """By group, then by what the group goes by."""
        if turn.held_tokens:
            return service.arrival_seconds - 10 * _GROUP
        return turn.context_tokens - (4 if service.pauses else 3) * _GROUP


@dataclass
class ThunderAgent(PolicyDefaults):
    """See the module. It has no options."""

    name: ClassVar[str] = "thunderagent"

    def __post_init__(self) -> None:
        self.order = SmallestFirst()
        self._check_seconds = 0.0

    def plan(self, snapshot: Snapshot) -> Plan:
        """Keep the contexts of active programs, and pause some when there are too many."""
        if snapshot.demand is not None:
            return Plan(self._for_demand(snapshot, snapshot.demand))
        actions: list[Action] = [Keep(pause.id) for pause in snapshot.pauses.undecided()]
        if snapshot.now_seconds >= self._check_seconds:
            self._check_seconds = snapshot.now_seconds + CHECK_SECONDS
            actions += self._pause_surplus(snapshot)
        return Plan(actions, self._check_seconds if len(snapshot.pauses) else None)

    @staticmethod
    def _pause_surplus(snapshot: Snapshot) -> Iterator[Action]:
        held = list(snapshot.pauses.held_longest_pause_first())
        programs = len(held) + snapshot.load.running_requests
        active = sum(pause.held_tokens for pause in held) + snapshot.load.running_tokens
        surplus = active + BUFFER_TOKENS * programs - snapshot.device.total_tokens
        for pause in _smallest_first(held):
            if surplus <= 0:
                return
            yield Drop(pause.id)
            surplus -= pause.held_tokens + BUFFER_TOKENS

    @staticmethod
    def _for_demand(snapshot: Snapshot, demand: Demand) -> Iterator[Action]:
        held = list(snapshot.pauses.held_longest_pause_first())
        active = demand.running or any(pause.id == demand.request_id for pause in held)
        forced = demand.engine_idle or demand.waited_seconds >= FORCED_SECONDS
        if active or forced:
            for pause in _smallest_first(held):
                yield Drop(pause.id)
        if demand.engine_idle:  # what returning programs hold may be all that is left to break
            for pause in held:
                if pause.returning:
                    yield Drop(pause.id)


def _smallest_first(held: list[PauseView]) -> list[PauseView]:
    acting = [pause for pause in held if not pause.returning]
    return sorted(acting, key=lambda pause: pause.held_tokens)
