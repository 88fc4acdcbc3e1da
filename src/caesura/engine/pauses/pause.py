"""One paused context, how pauses and holds end, and who is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import takewhile

from vllm.v1.core.kv_cache_utils import BlockHash
from vllm.v1.request import Request

from caesura.endpoints import HUMAN
from caesura.engine.copies.blocks import sole_blocks
from caesura.engine.copies.contexts import HostCopy
from caesura.engine.copies.groups import Groups
from caesura.engine.pauses.holds import Hold
from caesura.policy import Action, Disposition, Service
from caesura.policy.progress import Progress


class HoldEnding(StrEnum):
    """How a hold ended. Every hold ends in exactly one of these ways."""

    RESUMED = "resumed"  # its session is scheduled again
    DECIDED = "decided"  # the policy discarded the context, without pressure
    EXPIRED = "expired"  # the policy's time limit for it ran out
    COPIED = "copied"  # the context is in host memory now
    RELEASED = "released"  # a request needed the memory
    CANCELLED = "cancelled"  # its session was closed or aborted, or its context forgotten


class RecomputeCause(StrEnum):
    """Why tokens are computed again. Each is for exactly one of these reasons."""

    EVICTED = "evicted"  # a request needed the memory
    DROPPED = "dropped"  # the policy discarded the context, or its time limit ran out
    COPY_LOST = "copy lost"  # it was copied to host memory, and the copy replaced or not readable
    TEMPLATE = "template"  # the client's next request differs from what it continues
    RESET = "reset"  # all cached contexts were forgotten, after new weights for instance
    TAIL = "tail"  # the last tokens fill no block, and only whole blocks were kept
    PREEMPTED = "preempted"  # a running request gave its memory to another


class PauseEnding(StrEnum):
    """How a pause ended, or its wait for one endpoint. Each ends in exactly one of these ways."""

    RESUMED = "resumed"  # its session is scheduled again
    CANCELLED = "cancelled"  # the session was closed or aborted
    FORGOTTEN = "forgotten"  # too many pauses, or too old to be expected back
    RENAMED = "renamed"  # it goes on, and waits for another endpoint from now on


@dataclass(slots=True, eq=False)
class Pause:
    """One paused context.

    Attributes:
        id: the id of the engine request that paused.
        endpoint: what it waits for.
        service: what its session has had when it paused.
        paused_seconds: when it paused, on the monotonic clock.
        context_tokens: tokens whose KV was on the device when it paused.
        total_tokens: all its tokens; the last sampled one has no KV yet.
        prompt_tokens: tokens before the last turn's output.
        block_hashes: chained hashes of the context, each of all tokens before its end.
        block_size: tokens from one boundary to the next at which a context can go on.
        hashed_tokens: tokens from one hash to the next; with one KV cache group the same.
        groups: the engine's KV cache groups.
        session_id: the session id that the client gave, if any.
        owner: whose it is; None where owners are not told apart.
        request: the parked engine request, for sessions in place; None when the request
            finished towards its client.
        keep_until_seconds: its client has asked that it be kept until then, on the monotonic
            clock; None if it has not.
        hold: what keeps its blocks on the device, None when nothing does.
        copy: what host memory has of it.
        lost: why the device does not have all of it any more, None while it has.
        disposition: what was decided last.
        progress: what was said last about how far what it waits for has come.
        predicted_seconds: how long the policy expected it to last when it began.
        lasted_seconds: how long it lasted until its tokens arrived, None before.
        claimed_by: id of the request that resumes it, once its tokens have arrived.
        named_seconds: since when it has waited under its present name, on the monotonic clock.
        gone_after_seconds: how long it had waited when its client was presumed to be gone, None
            before that.
        human_seconds: how long it waited for humans before, when it had another name.
    """

    id: str
    endpoint: str
    service: Service
    paused_seconds: float
    context_tokens: int
    total_tokens: int
    prompt_tokens: int
    block_hashes: list[BlockHash]
    block_size: int
    hashed_tokens: int
    groups: Groups
    copy: HostCopy
    session_id: str | None = None
    owner: str | None = None
    request: Request | None = None
    keep_until_seconds: float | None = None
    hold: Hold | None = None
    lost: RecomputeCause | None = None
    disposition: Disposition | None = None
    progress: Progress | None = None
    predicted_seconds: float | None = None
    lasted_seconds: float | None = None
    claimed_by: str | None = None
    gone_after_seconds: float | None = None
    named_seconds: float = field(init=False)
    human_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.named_seconds = self.paused_seconds

    def rename(self, endpoint: str, now_seconds: float) -> None:
        """Wait for another endpoint from now on; reports on the old one say nothing about it."""
        if self.endpoint == HUMAN:
            self.human_seconds += now_seconds - self.named_seconds
        self.endpoint = endpoint
        self.named_seconds = now_seconds
        self.progress = None

    @property
    def endpoint_since_seconds(self) -> float:
        """When the wait for the endpoint began: the time that a human took does not count for a
        tool, and what a tool was called before it had its right name does."""
        if self.endpoint == HUMAN:
            return self.named_seconds
        return self.paused_seconds + self.human_seconds

    @property
    def arrival_seconds(self) -> float:
        """Original arrival of the session, on the wall clock."""
        return self.service.arrival_seconds

    @property
    def in_place(self) -> bool:
        """Whether its engine request is parked, waiting for more tokens."""
        return self.request is not None

    @property
    def returning(self) -> bool:
        """Whether its tokens have arrived and it waits to be scheduled."""
        return self.claimed_by is not None

    def lasts(self, now_seconds: float) -> bool:
        """Whether it is to be kept on, since its client has asked for that."""
        return self.keep_until_seconds is not None and now_seconds < self.keep_until_seconds

    @property
    def held_tokens(self) -> int:
        """Leading tokens whose KV the hold keeps on the device."""
        return self.hold.tokens if self.hold is not None else 0

    @property
    def copied_tokens(self) -> int:
        """Leading tokens that have a host copy."""
        return self.copy.copied_blocks * self.block_size

    @property
    def copy_requested(self) -> bool:
        """Whether a host copy was asked for, and not given up."""
        return self.copy.requested

    @property
    def loadable_tokens(self) -> int:
        """Leading tokens that the device would have after loading what host memory has."""
        held_blocks = self.held_tokens // self.block_size
        if self.copy.load_failed:
            return self.held_tokens
        blocks = max(self.copy.copied_blocks, held_blocks + self.copy.saved_blocks)
        most = self.groups.boundaries(self.block_hashes)
        return max(self.held_tokens, min(blocks, most) * self.block_size)

    def recompute_cause(self, recomputed_tokens: int) -> RecomputeCause:
        """Why so many of its tokens are computed again."""
        if self.lost is None or recomputed_tokens <= self.context_tokens % self.block_size:
            return RecomputeCause.TAIL
        return self.lost

    def memory_tokens(self, tokens: int) -> int:
        """Memory that so many leading tokens of the context take, in all KV cache groups."""
        if self.groups.prefixes:
            return tokens
        return self.groups.memory_blocks(-(-tokens // self.block_size)) * self.block_size

    def freeable_tokens(self) -> int:
        """Memory that only this hold keeps, in tokens."""
        if self.hold is None:
            return 0
        return len(sole_blocks(self.hold.blocks())) * self.block_size

    def common_blocks(self, block_hashes: Sequence[BlockHash]) -> int:
        """How many leading blocks a request of these hashes has in common with the context."""
        pairs = zip(self.block_hashes, block_hashes, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def index_hashes(self) -> set[BlockHash]:
        """Hashes that a continuation is recognised by: at the end of the context, and at the
        end of its prompt (for clients that render the last turn differently)."""
        ends = {len(self.block_hashes), self.prompt_tokens // self.hashed_tokens}
        return {self.block_hashes[end - 1] for end in ends if 0 < end <= len(self.block_hashes)}


class PauseListener:
    """Receives the events of `PauseKeeper`. This one ignores them."""

    def pause_began(self, pause: Pause) -> None:
        """A session paused."""

    def decided(self, pause: Pause, action: Action, disposition: Disposition) -> None:
        """The policy changed its mind about a paused context."""

    def hold_broken(self, pause: Pause, ending: HoldEnding, freed_tokens: int) -> None:
        """A hold ended, or lost its tail."""

    def prefetched(self, pause: Pause, loaded_tokens: int) -> None:
        """Context was loaded ahead of the session, and is held."""

    def claimed(self, pause: Pause) -> None:
        """The session's tokens have arrived."""

    def resumed(self, pause: Pause, held_tokens: int, loaded_tokens: int) -> None:
        """The session is scheduled; that much of its context was held, and that much loaded."""

    def pause_ended(self, pause: Pause, ending: PauseEnding) -> None:
        """The pause is over."""


NO_PAUSE_LISTENER = PauseListener()
