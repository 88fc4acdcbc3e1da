"""The table of pauses: one record per paused context, indexed for lookups and rankings."""

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from vllm.v1.core.kv_cache_utils import BlockHash

from caesura.engine.pauses.pause import Pause
from caesura.policy import Disposition


@dataclass(slots=True)
class PauseTable:
    """All pauses. Implements `caesura.policy.PauseIndex`.

    Orders are kept by binary insertion: both times of a pause never change.
    """

    _by_id: dict[str, Pause] = field(default_factory=dict)
    _by_hash: dict[BlockHash, list[Pause]] = field(default_factory=lambda: defaultdict(list))
    _by_session: dict[tuple[str | None, str], list[Pause]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _by_claimant: dict[str, Pause] = field(default_factory=dict)
    _by_arrival: list[Pause] = field(default_factory=list)
    _by_pause: list[Pause] = field(default_factory=list)
    _undecided: dict[str, Pause] = field(default_factory=dict)
    _lasting: Counter[str | None] = field(default_factory=Counter)  # by owner

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

    def lasting_of(self, owner: str | None) -> int:
        """How many pauses of an owner are kept for a time that was asked for."""
        return self._lasting[owner]

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
            held += pause.memory_tokens(pause.held_tokens) // pause.block_size
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
                self._by_session[pause.owner, pause.session_id].append(pause)
        if pause.keep_until_seconds is not None:
            self._lasting[pause.owner] += 1
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
        if pause.keep_until_seconds is not None:
            self._lasting[pause.owner] -= 1
            self._lasting += Counter()  # only owners that have some
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
        continuation has more tokens than the prompt of the turn that paused. Where several
        conversations have one id, the pause that has most in common with the request is taken, if
        that is half of it: they often begin alike.
        """
        if session_id is not None:
            pauses = self._by_session.get((owner, session_id), ())
            common = [(pause.common_blocks(block_hashes), pause) for pause in pauses]
            fitting = [
                (blocks, pause)
                for blocks, pause in common
                if num_tokens > pause.prompt_tokens
                and _is_enough(blocks, pause, block_hashes, shared=len(pauses) > 1)
            ]
            if fitting:
                return max(fitting, key=_blocks)[1]
        for block_hash in reversed(block_hashes):
            for pause in self._by_hash.get(block_hash, ()):
                same_session = pause.session_id in (None, session_id) and pause.owner == owner
                if same_session and num_tokens > pause.prompt_tokens:
                    return pause
        return None

    def is_empty(self) -> bool:
        """Whether no record is left anywhere (integrity check)."""
        sized = (self._by_id, self._by_session, self._by_claimant, self._by_arrival)
        others = (self._by_pause, self._undecided, self._by_hash, self._lasting)
        return not any((*sized, *others))

    def _unindex(self, pause: Pause) -> None:
        for block_hash in pause.index_hashes():
            pauses = self._by_hash.get(block_hash)
            if pauses is not None and pause in pauses:
                pauses.remove(pause)
                if not pauses:
                    del self._by_hash[block_hash]
        if pause.session_id is not None:
            session = (pause.owner, pause.session_id)
            pauses = self._by_session.get(session)
            if pauses is not None and pause in pauses:
                pauses.remove(pause)
                if not pauses:
                    del self._by_session[session]


def _is_enough(blocks: int, pause: Pause, block_hashes: list[BlockHash], *, shared: bool) -> bool:
    """Whether a request of that session continues the paused context, and no other."""
    if shared:
        return 2 * blocks >= len(pause.block_hashes)
    return blocks > 0 or not (pause.block_hashes and block_hashes)


def _blocks(fitting: tuple[int, Pause]) -> int:
    return fitting[0]


def _arrival(pause: Pause) -> float:
    return pause.arrival_seconds


def _paused(pause: Pause) -> float:
    return pause.paused_seconds


def _remove_sorted(pauses: list[Pause], pause: Pause, value: float, key) -> None:  # type: ignore[no-untyped-def]
    index = bisect.bisect_left(pauses, value, key=key)
    while pauses[index] is not pause:
        index += 1
    del pauses[index]
