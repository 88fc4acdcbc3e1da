"""The table of pauses: one record per paused context, indexed for lookups and rankings."""

import bisect
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from vllm.v1.core.kv_cache_utils import BlockHash
from vllm.v1.request import Request

from caesura.endpoints import HUMAN
from caesura.engine.copies.blocks import sole_blocks
from caesura.engine.copies.contexts import HostCopy
from caesura.engine.pauses.holds import Hold
from caesura.policy import Disposition, Service
from caesura.policy.progress import Progress


class HoldEnding(StrEnum):
    """How a hold ended. Every hold ends in exactly one of these ways."""

    RESUMED = "resumed"  # its session is scheduled again
    DECIDED = "decided"  # the policy discarded the context, without pressure
    EXPIRED = "expired"  # the policy's time limit for it ran out
    COPIED = "copied"  # the context is in host memory now
    RELEASED = "released"  # a request needed the memory
    CANCELLED = "cancelled"  # its session was closed or aborted, or its context forgotten


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
        block_hashes: chained hash of each full block of the context.
        block_size: tokens per block.
        session_id: the session id that the client gave, if any.
        owner: whose it is; None where owners are not told apart.
        request: the parked engine request, for sessions in place; None when the request
            finished towards its client.
        hold: what keeps its blocks on the device, None when nothing does.
        copy: what host memory has of it.
        disposition: what was decided last.
        progress: what was said last about how far what it waits for has come.
        predicted_seconds: how long the policy expected it to last when it began.
        lasted_seconds: how long it lasted until its tokens arrived, None before.
        claimed_by: id of the request that resumes it, once its tokens have arrived.
        named_seconds: since when it has waited under its present name, on the monotonic clock.
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
    copy: HostCopy
    session_id: str | None = None
    owner: str | None = None
    request: Request | None = None
    hold: Hold | None = None
    disposition: Disposition | None = None
    progress: Progress | None = None
    predicted_seconds: float | None = None
    lasted_seconds: float | None = None
    claimed_by: str | None = None
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
        return max(self.held_tokens, min(blocks, len(self.block_hashes)) * self.block_size)

    def freeable_tokens(self) -> int:
        """Tokens of device memory that only this hold keeps."""
        if self.hold is None:
            return 0
        return len(sole_blocks(self.hold.blocks())) * self.block_size

    def index_hashes(self) -> set[BlockHash]:
        """Hashes that a continuation is recognised by: at the end of the context, and at the
        end of its prompt (for clients that render the last turn differently)."""
        ends = {len(self.block_hashes), self.prompt_tokens // self.block_size}
        return {self.block_hashes[end - 1] for end in ends if 0 < end <= len(self.block_hashes)}


@dataclass(slots=True)
class PauseTable:
    """All pauses. Implements `caesura.policy.PauseIndex`.

    Orders are kept by binary insertion: both times of a pause never change.
    """

    _by_id: dict[str, Pause] = field(default_factory=dict)
    _by_hash: dict[BlockHash, list[Pause]] = field(default_factory=lambda: defaultdict(list))
    _by_session: dict[tuple[str | None, str], Pause] = field(default_factory=dict)
    _by_claimant: dict[str, Pause] = field(default_factory=dict)
    _by_arrival: list[Pause] = field(default_factory=list)
    _by_pause: list[Pause] = field(default_factory=list)
    _undecided: dict[str, Pause] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Pause]:
        return iter(self._by_id.values())

    def get(self, pause_id: str) -> Pause | None:
        """The pause of that id."""
        return self._by_id.get(pause_id)

    def oldest_first(self, at_least: int, paused_before: float) -> list[Pause]:
        """The pauses that began first: at least so many, and all that began before a time."""
        count = bisect.bisect_left(self._by_pause, paused_before, key=_paused)
        return self._by_pause[: max(at_least, count)]

    def has_undecided(self) -> bool:
        """Whether a pause has no disposition yet."""
        return bool(self._undecided)

    def returning_count(self) -> int:
        """Sessions whose tokens have arrived and that wait to be scheduled."""
        return len(self._by_claimant)

    def claimed_by(self, request_id: str) -> Pause | None:
        """The pause that this request resumes."""
        return self._by_claimant.get(request_id)

    def undecided(self) -> Iterator[Pause]:
        """Pauses without a disposition, in the order in which they began."""
        return iter(list(self._undecided.values()))

    def held_latest_arrival_first(self) -> Iterator[Pause]:
        """Pauses with blocks on the device, latest arrival first."""
        return (pause for pause in reversed(self._by_arrival) if pause.hold is not None)

    def held_blocks(self, at_most: int) -> int:
        """Device blocks that holds keep, counted up to a number."""
        held = 0
        for pause in self.held_latest_arrival_first():
            held += pause.held_tokens // pause.block_size
            if held >= at_most:
                break
        return min(held, at_most)

    def held_longest_pause_first(self) -> Iterator[Pause]:
        """Pauses with blocks on the device, earliest pause first."""
        return (pause for pause in self._by_pause if pause.hold is not None)

    def add(self, pause: Pause) -> None:
        """Enter a new pause."""
        assert pause.id not in self._by_id, f"pause {pause.id} is in the table already"
        self._by_id[pause.id] = pause
        self._undecided[pause.id] = pause
        if pause.request is None:
            for block_hash in pause.index_hashes():
                self._by_hash[block_hash].append(pause)
            if pause.session_id is not None:
                self._by_session[pause.owner, pause.session_id] = pause
        bisect.insort(self._by_arrival, pause, key=_arrival)
        bisect.insort(self._by_pause, pause, key=_paused)

    def decided(self, pause: Pause, disposition: Disposition) -> None:
        """Record a decision."""
        pause.disposition = disposition
        self._undecided.pop(pause.id, None)

    def claim(self, pause: Pause, request_id: str) -> None:
        """Record that `request_id` resumes the pause; nobody else can claim it then."""
        pause.claimed_by = request_id
        self._by_claimant[request_id] = pause
        self._unindex(pause)

    def remove(self, pause: Pause) -> None:
        """Take a pause out of every index."""
        del self._by_id[pause.id]
        self._undecided.pop(pause.id, None)
        if pause.claimed_by is not None:
            self._by_claimant.pop(pause.claimed_by, None)
        self._unindex(pause)
        _remove_sorted(self._by_arrival, pause, _arrival(pause), _arrival)
        _remove_sorted(self._by_pause, pause, _paused(pause), _paused)

    def find_continued(
        self,
        session_id: str | None,
        owner: str | None,
        block_hashes: list[BlockHash],
        num_tokens: int,
    ) -> Pause | None:
        """The owner's pause that a new request of `num_tokens` tokens continues, if any.

        By session id when the client gives one, else by the longest matching prefix. A
        continuation has more tokens than the prompt of the turn that paused.
        """
        if session_id is not None:
            pause = self._by_session.get((owner, session_id))
            if pause is not None and _continues(pause, num_tokens, block_hashes):
                return pause
        for block_hash in reversed(block_hashes):
            for pause in self._by_hash.get(block_hash, ()):
                same_session = pause.session_id in (None, session_id) and pause.owner == owner
                if same_session and num_tokens > pause.prompt_tokens:
                    return pause
        return None

    def is_empty(self) -> bool:
        """Whether no record is left anywhere (integrity check)."""
        sized = (self._by_id, self._by_session, self._by_claimant, self._by_arrival)
        return not any((*sized, self._by_pause, self._undecided, self._by_hash))

    def _unindex(self, pause: Pause) -> None:
        for block_hash in pause.index_hashes():
            pauses = self._by_hash.get(block_hash)
            if pauses is not None and pause in pauses:
                pauses.remove(pause)
                if not pauses:
                    del self._by_hash[block_hash]
        if pause.session_id is not None:
            session = (pause.owner, pause.session_id)
            if self._by_session.get(session) is pause:
                del self._by_session[session]


def _continues(pause: Pause, num_tokens: int, block_hashes: list[BlockHash]) -> bool:
    """Whether a request of that session extends the paused context at all."""
    if num_tokens <= pause.prompt_tokens:
        return False
    return not (pause.block_hashes and block_hashes) or pause.block_hashes[0] == block_hashes[0]


def _arrival(pause: Pause) -> float:
    return pause.arrival_seconds


def _paused(pause: Pause) -> float:
    return pause.paused_seconds


def _remove_sorted(pauses: list[Pause], pause: Pause, value: float, key) -> None:  # type: ignore[no-untyped-def]
    index = bisect.bisect_left(pauses, value, key=key)
    while pauses[index] is not pause:
        index += 1
    del pauses[index]
