"""Paused contexts in memory, and an engine that does at once what a policy plans."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from caesura.policy import (
    Action,
    CopyAhead,
    CopyOut,
    CostModel,
    Demand,
    Disposition,
    Drop,
    DropCopy,
    Expire,
    Keep,
    Load,
    Memory,
    Plan,
    Policy,
    Prefetch,
    Snapshot,
)
from caesura.policy.progress import Progress

NO_MEMORY = Memory(0, 0)


@dataclass(eq=False)
class FakePause:
    id: str
    paused_seconds: float = 0.0
    held_tokens: int = 100
    arrival_seconds: float = 0.0
    copied_tokens: int = 0
    endpoint: str = "tool"
    copy_requested: bool = False
    returning: bool = False
    disposition: Disposition | None = None
    progress: Progress | None = None
    gone_after_seconds: float | None = None
    shared_tokens: int = 0
    memory_of: Callable[[int], int] = int  # as with full attention

    @property
    def endpoint_since_seconds(self) -> float:
        return self.paused_seconds

    @property
    def context_tokens(self) -> int:
        return self.held_tokens

    @property
    def loadable_tokens(self) -> int:
        return max(self.held_tokens, self.copied_tokens)

    def memory_tokens(self, tokens: int) -> int:
        return self.memory_of(tokens)

    def freeable_tokens(self) -> int:
        return max(0, self.memory_tokens(self.held_tokens) - self.shared_tokens)


class FakeIndex(list[FakePause]):
    def undecided(self):
        return iter([pause for pause in self if pause.disposition is None])

    def held_latest_arrival_first(self):
        held = [pause for pause in self if pause.held_tokens]
        return iter(sorted(held, key=lambda pause: -pause.arrival_seconds))

    def held_longest_pause_first(self):
        held = [pause for pause in self if pause.held_tokens]
        return iter(sorted(held, key=lambda pause: pause.paused_seconds))


class FakeEngine:
    """Asks a policy and carries its plans out; a swap is complete when it is told so."""

    def __init__(
        self,
        policy: Policy,
        pauses: Iterable[FakePause] = (),
        *,
        costs: CostModel,
        load: Load,
        device: Memory = NO_MEMORY,
        host: Memory = NO_MEMORY,
    ) -> None:
        self.policy = policy
        self.pauses = FakeIndex(pauses)
        self.costs, self.load, self.device, self.host = costs, load, device, host

    def snapshot(self, now: float, demand: Demand | None = None) -> Snapshot:
        return Snapshot(now, self.pauses, self.device, self.host, self.costs, self.load, demand)

    def plan(self, now: float) -> Plan:
        return self.policy.plan(self.snapshot(now))

    def step(self, now: float) -> dict[str, Disposition]:
        """Plan, carry out, and say what was decided; kept as they are is not mentioned."""
        by_id = {pause.id: pause for pause in self.pauses}
        decided = {}
        for action in self.plan(now).actions:
            pause = by_id[action.pause_id]
            match action:
                case Keep() | Prefetch():
                    pause.disposition = Disposition.PRESERVE
                case CopyAhead():
                    pause.disposition = Disposition.PRESERVE
                    pause.copy_requested = True
                case CopyOut():
                    pause.disposition = Disposition.SWAP
                    pause.copy_requested = True
                case Drop():
                    pause.disposition = Disposition.DISCARD
                    pause.held_tokens = action.keep_tokens
                case Expire():
                    pause.disposition = Disposition.DISCARD
                    pause.held_tokens = 0
                case DropCopy():
                    pause.copied_tokens = 0
                    pause.copy_requested = False
            if pause.disposition not in (None, Disposition.PRESERVE):
                decided[action.pause_id] = pause.disposition
        return decided

    def releases(self, demand: Demand, now: float = 0.0) -> list[Action]:
        return list(self.policy.plan(self.snapshot(now, demand)).actions)


def demand(tokens: int, **changes: object) -> Demand:
    values: dict[str, object] = {
        "request_id": "asking",
        "tokens": tokens,
        "running": False,
        "arrival_seconds": 0.0,
        "waited_seconds": 0.0,
        "engine_idle": False,
    }
    return Demand(**{**values, **changes})  # type: ignore[arg-type]
