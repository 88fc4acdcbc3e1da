"""What a policy sees (`Snapshot`) and what it answers (`Plan`).

Units: times are seconds on one monotonic clock, lengths are tokens. Nothing here knows
vLLM: a policy never reads the engine (`architecture.md`, section 5).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Disposition(StrEnum):
    """What is done with the KV context of a paused session."""

    PRESERVE = "preserve"
    SWAP = "swap"
    DISCARD = "discard"


class PauseView(Protocol):
    """One paused context, read-only.

    Attributes:
        id: identifies the pause while it lasts.
        endpoint: what it waits for: a tool by name, "human", "client", ...
        arrival_seconds: original arrival of its session.
        paused_seconds: when the pause began.
        context_tokens: tokens whose KV was on the device when the pause began.
        held_tokens: leading tokens whose KV the hold keeps on the device now.
        copied_tokens: leading tokens that have a host copy now.
        returning: its tokens have arrived; it waits to be scheduled.
        disposition: what was decided last, None before the first decision.
    """

    @property
    def id(self) -> str: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def arrival_seconds(self) -> float: ...
    @property
    def paused_seconds(self) -> float: ...
    @property
    def context_tokens(self) -> int: ...
    @property
    def held_tokens(self) -> int: ...
    @property
    def copied_tokens(self) -> int: ...
    @property
    def returning(self) -> bool: ...
    @property
    def disposition(self) -> Disposition | None: ...

    def freeable_tokens(self) -> int:
        """Tokens of device memory that only this hold keeps: what releasing it would free."""
        ...


class PauseIndex(Protocol):
    """All pauses, in the orders that policies need, without copying them."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[PauseView]: ...

    def undecided(self) -> Iterator[PauseView]:
        """Pauses that have no disposition yet, in the order in which they began."""
        ...

    def held_latest_arrival_first(self) -> Iterator[PauseView]:
        """Pauses with blocks on the device, those of the latest sessions first."""
        ...

    def held_longest_pause_first(self) -> Iterator[PauseView]:
        """Pauses with blocks on the device, those that began first first."""
        ...


@dataclass(frozen=True, slots=True)
class Memory:
    """Token capacity of one place and what is free in it."""

    total_tokens: int
    free_tokens: int


@dataclass(frozen=True, slots=True)
class CostModel:
    """What an iteration costs: `T_fwd(x) = a * x + c` seconds for `x` query tokens.

    Attributes:
        seconds_per_token: `a`.
        seconds_per_iteration: `c`.
        measured: True when fitted to this engine's iterations, False for defaults.
    """

    seconds_per_token: float
    seconds_per_iteration: float
    measured: bool = False

    def forward_seconds(self, query_tokens: int) -> float:
        """`T_fwd` of an iteration with `query_tokens` tokens."""
        return self.seconds_per_token * query_tokens + self.seconds_per_iteration


@dataclass(frozen=True, slots=True)
class Demand:
    """A request that lacks device memory.

    Attributes:
        request_id: who asks.
        tokens: how much is lacking.
        running: it is running already (else it waits to be admitted).
        arrival_seconds: its session's original arrival.
        waited_seconds: how long it has lacked memory.
        engine_idle: nothing runs, so nobody is served by waiting.
    """

    request_id: str
    tokens: int
    running: bool
    arrival_seconds: float
    waited_seconds: float
    engine_idle: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state that a decision is taken from.

    Attributes:
        now_seconds: the clock that all times of the snapshot are on.
        pauses: every pause.
        device: device KV memory.
        host: host KV memory (0 tokens where there is none).
        costs: what computing costs.
        demand: set when a request lacks memory now; the plan then says what to release.
    """

    now_seconds: float
    pauses: PauseIndex
    device: Memory
    host: Memory
    costs: CostModel
    demand: Demand | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """One decision about one pause.

    `PRESERVE` keeps the hold as it is. `SWAP` copies the context to host memory and releases
    the device blocks when the copy is complete. `DISCARD` releases them now.

    Attributes:
        pause_id: which pause.
        disposition: what is done with it.
        keep_tokens: for `DISCARD`: leading tokens that stay held (the tail is dropped).
        forget: for `DISCARD`: also remove the blocks that nobody else uses from the prefix
            cache, so that the resume computes them again even when they were not overwritten.
        expired: the policy's own time limit ended the hold (for the record of endings).
    """

    pause_id: str
    disposition: Disposition
    keep_tokens: int = 0
    forget: bool = False
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    Attributes:
        actions: carried out in order. For a snapshot with a demand they are taken one by one
            until the demand is met, so they may be produced lazily.
        review_seconds: when the policy wants to be asked again even if nothing changes.
    """

    actions: Iterable[Action] = field(default_factory=tuple)
    review_seconds: float | None = None


class Policy(Protocol):
    """Decides what becomes of paused contexts.

    Attributes:
        name: what users select it by.
        original_arrival: a returning session queues by its original arrival.
    """

    name: str
    original_arrival: bool

    def saves_preempted(self, costs: CostModel) -> bool:
        """Whether a preempted request's context is copied to host memory, when there is any,
        instead of being computed again."""
        ...

    def plan(self, snapshot: Snapshot) -> Plan:
        """Decide from a snapshot. Called when a pause begins, when a review is due, and with
        `snapshot.demand` set when a request lacks device memory."""
        ...
