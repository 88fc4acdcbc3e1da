"""What a policy sees (`Snapshot`) and what it answers (`Plan`).

Units: times are seconds on one monotonic clock, lengths are tokens. Nothing here knows
vLLM: a policy never reads the engine (`architecture.md`, section 5).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from caesura.policy.costs import CostModel
from caesura.policy.order import SessionOrder
from caesura.policy.progress import Progress


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
        endpoint_since_seconds: since when it has waited for the endpoint: later than
            `paused_seconds` by the time for which the session waited for a human instead.
        context_tokens: tokens whose KV was on the device when the pause began.
        held_tokens: leading tokens whose KV the hold keeps on the device now.
        copied_tokens: leading tokens that have a host copy now.
        loadable_tokens: leading tokens that the device would have after a prefetch.
        copy_requested: a host copy was asked for, and not given up.
        returning: its tokens have arrived; it waits to be scheduled.
        disposition: what was decided last, None before the first decision.
        progress: what was said last about how far what it waits for has come.
        gone_after_seconds: how long it had waited when its client was presumed to be gone, None
            before that.
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
    def endpoint_since_seconds(self) -> float: ...
    @property
    def context_tokens(self) -> int: ...
    @property
    def held_tokens(self) -> int: ...
    @property
    def copied_tokens(self) -> int: ...
    @property
    def loadable_tokens(self) -> int: ...
    @property
    def copy_requested(self) -> bool: ...
    @property
    def returning(self) -> bool: ...
    @property
    def disposition(self) -> Disposition | None: ...
    @property
    def progress(self) -> Progress | None: ...
    @property
    def gone_after_seconds(self) -> float | None: ...

    def memory_tokens(self, tokens: int) -> int:
        """Memory that so many leading tokens of the context take, on the device or as a copy.

        Memory is counted in tokens, too: those that fill a block. With full attention alone a
        context of `tokens` tokens takes `tokens`; where layers have windows, each kind of layer
        takes blocks of its own, and no more of them than its window reaches.
        """

    def freeable_tokens(self) -> int:
        """Memory that only this hold keeps, in tokens: what releasing it would free."""


class PauseIndex(Protocol):
    """All pauses, in the orders that policies need, without copying them."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[PauseView]: ...

    def undecided(self) -> Iterator[PauseView]:
        """Pauses that have no disposition yet, in the order in which they began."""

    def held_latest_arrival_first(self) -> Iterator[PauseView]:
        """Pauses with blocks on the device, those of the latest sessions first."""

    def held_longest_pause_first(self) -> Iterator[PauseView]:
        """Pauses with blocks on the device, those that began first first."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Token capacity of one place and what is free in it; see `PauseView.memory_tokens`."""

    total_tokens: int
    free_tokens: int


@dataclass(frozen=True, slots=True)
class Demand:
    """A request that lacks device memory.

    Attributes:
        request_id: who asks.
        tokens: how much memory is lacking.
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
class Load:
    """What the engine does and what waits for it.

    Attributes:
        running_requests: requests in the batch.
        running_tokens: their contexts.
        waiting_requests: requests that wait to be admitted, returning sessions included.
        link_backlog_tokens: tokens of copies, either way, that are queued or under way.
        copy_budget_tokens: tokens copied per iteration at most, out and in together.
    """

    running_requests: int = 0
    running_tokens: int = 0
    waiting_requests: int = 0
    link_backlog_tokens: int = 0
    copy_budget_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state that a decision is taken from.

    Attributes:
        now_seconds: the clock that all times of the snapshot are on.
        pauses: every pause.
        device: device KV memory.
        host: host KV memory (0 tokens where there is none).
        costs: what computing and copying cost.
        load: what runs, waits and is copied.
        demand: set when a request lacks memory now; the plan then says what to release.
    """

    now_seconds: float
    pauses: PauseIndex
    device: Memory
    host: Memory
    costs: CostModel
    load: Load = field(default_factory=Load)
    demand: Demand | None = None


@dataclass(frozen=True, slots=True)
class _OfPause:
    pause_id: str


@dataclass(frozen=True, slots=True)
class Keep(_OfPause):
    """Keep the hold as it is."""


@dataclass(frozen=True, slots=True)
class CopyAhead(_OfPause):
    """Keep the hold and copy the context to host memory, so that the hold can be released at
    once later (write-ahead)."""


@dataclass(frozen=True, slots=True)
class Prefetch(_OfPause):
    """Keep the hold, load what host memory has of the context and the device lacks into free
    device memory, and hold that too."""


@dataclass(frozen=True, slots=True)
class CopyOut(_OfPause):
    """Copy the context to host memory, and release the device blocks when the copy is complete."""


@dataclass(frozen=True, slots=True)
class Drop(_OfPause):
    """Release the device blocks now, or those of the tail only.

    Attributes:
        keep_tokens: leading tokens that stay held.
        forget: also remove the blocks that nobody else uses from the prefix cache, so that the
            resume computes them again even if they were not overwritten.
    """

    keep_tokens: int = 0
    forget: bool = False


@dataclass(frozen=True, slots=True)
class Expire(_OfPause):
    """Release the device blocks, since the policy's own time limit is over."""


@dataclass(frozen=True, slots=True)
class DropCopy(_OfPause):
    """Give up the host copy. What the device still has of the context stays there."""


Action = Keep | CopyAhead | Prefetch | CopyOut | Drop | Expire | DropCopy
"""One decision about one pause."""


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
        order: in which order sessions are served; None for vLLM's, each turn a new arrival.
    """

    name: str

    @property
    def order(self) -> SessionOrder | None:
        """See above."""

    def iteration_tokens(self) -> int | None:
        """Query tokens per iteration at most while sessions pause, new prompts and contexts that
        are computed again together; None for the engine's own limit."""

    def saves_contexts(self, costs: CostModel) -> bool:
        """Whether a context that has to give way (a preempted request's, or a hold that is
        broken) is copied to host memory, where there is any, instead of being lost."""

    def copies_given_up(
        self, snapshot: Snapshot, tokens: int, pause: PauseView | None
    ) -> Iterable[str]:
        """Host memory lacks so many tokens for a context that has to give way now: the pauses
        whose copies are dropped for it.

        Args:
            snapshot: the state.
            tokens: how much is lacking.
            pause: whose context is to be copied; None for a request that waits to go on.
        """

    def expected_seconds(self, endpoint: str) -> float | None:
        """How long a new pause is expected to last; None where nothing is estimated."""

    def ended(self, endpoint: str, elapsed_seconds: float, *, returned: bool) -> None:
        """A pause is over: its session's tokens have arrived, or it will not come back."""

    def not_gone(self, endpoint: str, elapsed_seconds: float) -> None:
        """A pause of which `ended` was told after so long that it will not come back, comes back:
        as `ended` says next."""

    def resumed(self, waited_seconds: float, *, held: bool) -> None:
        """A session that came back is scheduled.

        Args:
            waited_seconds: since its tokens arrived.
            held: something of its context had stayed on the device.
        """

    def plan(self, snapshot: Snapshot) -> Plan:
        """Decide from a snapshot. Called when a pause begins, when a review is due, and with
        `snapshot.demand` set when a request lacks device memory."""


class PolicyDefaults:
    """The methods of `Policy` besides `plan`, as most policies have them: a base class for
    policies that are to say only what they do differently."""

    def iteration_tokens(self) -> int | None:
        """The engine's limit: smaller ones pay the fixed part of an iteration more often."""
        return None

    def saves_contexts(self, costs: CostModel) -> bool:
        """No: as in vLLM, what has to give way is computed again."""
        return False

    def copies_given_up(
        self, snapshot: Snapshot, tokens: int, pause: PauseView | None
    ) -> Iterable[str]:
        """None: a copy stays until its session returns."""
        return ()

    def expected_seconds(self, endpoint: str) -> float | None:
        """Nothing is estimated."""
        return None

    def ended(self, endpoint: str, elapsed_seconds: float, *, returned: bool) -> None:
        """Nothing is learned from it."""

    def not_gone(self, endpoint: str, elapsed_seconds: float) -> None:
        """Nothing was learned that would have to be unlearned."""

    def resumed(self, waited_seconds: float, *, held: bool) -> None:
        """Nothing is learned from it."""
