"""The policies that others are measured against (`policy.md`, section 3)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from caesura.policy.costs import CostModel
from caesura.policy.order import ServedBy, SessionOrder
from caesura.policy.reclaim import ReclaimRule
from caesura.policy.types import (
    Action,
    CopyOut,
    Drop,
    Expire,
    Keep,
    PauseView,
    Plan,
    PolicyDefaults,
    Snapshot,
)


@dataclass(frozen=True)
class End(PolicyDefaults):
    """An interception ends the request, as in stock vLLM: nothing is held, and the returning
    session queues as a new arrival. What the prefix cache still has is used."""

    name: ClassVar[str] = "end"
    order: ClassVar[SessionOrder | None] = None  # vLLM's: each turn is a new arrival

    def plan(self, snapshot: Snapshot) -> Plan:
        """Drop new pauses. A demand finds nothing that is held."""
        return Plan([Drop(pause.id) for pause in snapshot.pauses.undecided()])


@dataclass(frozen=True)
class _Ordered(PolicyDefaults):
    """One decision for every new pause.

    Attributes:
        served_by: in which order sessions are served.
    """

    name: ClassVar[str]

    served_by: ServedBy = ServedBy.ARRIVAL

    @cached_property
    def order(self) -> SessionOrder | None:
        """By original arrival, unless told otherwise."""
        return self.served_by.order()

    def plan(self, snapshot: Snapshot) -> Plan:
        """Decide about new pauses."""
        return Plan([self._decide(pause) for pause in snapshot.pauses.undecided()])

    def _decide(self, pause: PauseView) -> Action:
        raise NotImplementedError


class Discard(_Ordered):
    """Drop at the pause, resume by computing the context again, at the original arrival
    (InferCept's ImprovedDiscard). Blocks that others share stay."""

    name = "discard"

    def _decide(self, pause: PauseView) -> Action:
        return Drop(pause.id, forget=True)


@dataclass(frozen=True)
class _Holding(_Ordered):
    """Contexts are held for a while; the reclaim rule under pressure.

    Attributes:
        reclaim: who may break a hold.
    """

    reclaim: ReclaimRule = field(default_factory=ReclaimRule)

    def plan(self, snapshot: Snapshot) -> Plan:
        """Decide about new pauses, or release what a demand needs."""
        if snapshot.demand is not None:
            return Plan(self.reclaim.releases(snapshot, snapshot.demand))
        return super().plan(snapshot)


class Preserve(_Holding):
    """Keep every paused context on the device, until someone needs the memory."""

    name = "preserve"

    def _decide(self, pause: PauseView) -> Action:
        return Keep(pause.id)


class Swap(_Holding):
    """Copy every paused context to host memory and free its blocks, preempted ones too."""

    name = "swap"

    def saves_contexts(self, costs: CostModel) -> bool:
        """Yes."""
        return True

    def _decide(self, pause: PauseView) -> Action:
        return CopyOut(pause.id)


@dataclass(frozen=True)
class Ttl(_Holding):
    """Keep a context for a time to live that is the same for all, then drop it. For one that is
    chosen for each pause see `Continuum`.

    Attributes:
        ttl_seconds: the time to live. Zero drops at once.
    """

    name = "ttl"

    ttl_seconds: float = 2.0

    def plan(self, snapshot: Snapshot) -> Plan:
        """Keep new pauses, drop expired ones, and say when the next one expires."""
        if snapshot.demand is not None:
            return Plan(self.reclaim.releases(snapshot, snapshot.demand))
        keep = [self._decide(pause) for pause in snapshot.pauses.undecided()]
        expired: list[Action] = []
        review_seconds = None
        for pause in self._not_returning(snapshot):
            expiry_seconds = pause.paused_seconds + self.ttl_seconds
            if expiry_seconds > snapshot.now_seconds:
                review_seconds = expiry_seconds
                break
            expired.append(Expire(pause.id))
        return Plan([*keep, *expired], review_seconds)

    def _decide(self, pause: PauseView) -> Action:
        return Keep(pause.id)

    @staticmethod
    def _not_returning(snapshot: Snapshot) -> Iterator[PauseView]:
        pauses = snapshot.pauses.held_longest_pause_first()
        return (pause for pause in pauses if not pause.returning)
