"""InferCept's min-waste interception, as published (ICML 2024, arXiv 2402.01869).

In every iteration each paused context is looked at again. How long its pause will last is
estimated as the time that it has lasted, so a new pause wastes nothing yet, and an old one is
expected to go on. The waste of a context is the smaller of preserving and of discarding it
(equation (5) in `waste.py`). What may be copied in this iteration goes to the most wasteful
contexts; of the others those are discarded whose waste of discarding is the smaller one.

What differs here, since the engine does:

* A swap is asked for while the iteration's copy budget has room. The engine copies the front
  first, over as many iterations as it takes, and releases the device blocks at the end.
* Only blocks that no other context shares count.
* A context is looked at when it is due (`_Watched.due_seconds`: when preserving becomes the
  greater waste), and all are when the load has fallen by `LOAD_TOLERANCE`. So under a falling
  load a decision is late by this share at most. A ranking of all is used for `RANK_SECONDS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import ClassVar

from caesura.policy.costs import CostModel
from caesura.policy.order import ServedBy, SessionOrder
from caesura.policy.reclaim import ReclaimRule
from caesura.policy.three_queues import ThreeQueues
from caesura.policy.types import (
    Action,
    CopyOut,
    Disposition,
    Drop,
    Keep,
    PauseView,
    Plan,
    PolicyDefaults,
    Snapshot,
)
from caesura.policy.waste import (
    LeastWaste,
    break_even_seconds,
    chunk_tokens,
    least_waste,
    preserve_waste,
)

LOAD_TOLERANCE = 0.25
"""A load that is lower by this share (by the break-even that it means) changes due times."""

RANK_SECONDS = 0.1
"""How long a ranking by waste is used."""

SHARED_RECHECK_SECONDS = 1.0
"""How often a context that others share altogether is looked at."""

COPY_PATIENCE = 4
"""A copy out that makes no progress for so many times its duration is given up."""


@dataclass(slots=True, eq=False)
class _Watched:
    """A context on the device about which there is something to decide.

    Attributes:
        tokens: what releasing it would free, when it was last looked at.
        due_seconds: when it has to be looked at again.
        swap_seconds: how long copying it out should take at most; None while not asked for.
        swap_given_up_seconds: when, unless the copy has got further.
        copied_tokens: how much of it had a copy when it was last looked at.
    """

    pause: PauseView
    tokens: int
    due_seconds: float = 0.0
    swap_seconds: float | None = None
    swap_given_up_seconds: float = 0.0
    copied_tokens: int = 0

    def __lt__(self, other: "_Watched") -> bool:
        return self.due_seconds < other.due_seconds

    def is_held(self) -> bool:
        """Whether it is still there, and its session has not come back."""
        return self.pause.held_tokens > 0 and not self.pause.returning


@dataclass(frozen=True, slots=True)
class _Iteration:
    """The other side of the equations: what runs.

    Attributes:
        other_tokens: `C_other`.
        saturation_tokens: `S`.
        chunk_tokens: what running requests leave below saturation.
    """

    now_seconds: float
    costs: CostModel
    other_tokens: int
    saturation_tokens: int
    chunk_tokens: int

    def break_even_seconds(self, context_tokens: int) -> float:
        """Length of a pause for which preserving wastes as much as discarding."""
        return break_even_seconds(self.costs, context_tokens, self.other_tokens, self.chunk_tokens)


@dataclass
class InferCept(PolicyDefaults):
    """See the module.

    Attributes:
        saturation_tokens: `S`: query tokens beyond which iterations take longer. 0 for that of
            the device's profile (`CostModel.saturation_point`); the authors' for their models and
            devices was 384.
        forget_discarded: not 0: what is discarded leaves the prefix cache at once and is computed
            again in any case, as by the authors, whose system had none. By default it is found
            there as long as nobody has overwritten it.
        served_by: in which order sessions are served; the paper's three queues are by arrival.
        remaining_seconds: (no option) gives the remaining time of a pause by its id, None where
            it is unknown. A simulation that knows the future sets it for the rule of the released
            code, by which a pause is expected to last for its known remaining time instead of
            the time that it has lasted.
    """

    name: ClassVar[str] = "infercept"
    reclaim: ReclaimRule = field(default_factory=ReclaimRule)
    saturation_tokens: float = 0
    forget_discarded: float = 0
    served_by: ServedBy = ServedBy.ARRIVAL

    def __post_init__(self) -> None:
        by_arrival = self.served_by is ServedBy.ARRIVAL
        self.order: SessionOrder = ThreeQueues() if by_arrival else self.served_by.order()
        self.remaining_seconds: Callable[[str], float | None] | None = None
        self._watched: list[_Watched] = []  # a heap
        self._highest_break_even = 0.0  # of a chunk, under the loads that due times are for
        self._ranking: list[_Watched] = []  # that may be swapped, the most wasteful last
        self._ranked_seconds = float("-inf")
        self._smallest_tokens = float("inf")  # of the contexts that may want to be swapped
        self._iteration_tokens: int | None = None  # before the first pause there is no limit

    def iteration_tokens(self) -> int | None:
        """The saturation point: contexts are computed again in chunks that fill what the running
        requests leave of it (section 4.2)."""
        return self._iteration_tokens

    def plan(self, snapshot: Snapshot) -> Plan:
        """Look at the contexts that are due and hand out the copy budget, or meet a demand."""
        if snapshot.demand is not None:
            return Plan(self.reclaim.releases(snapshot, snapshot.demand))
        load = snapshot.load
        saturation = int(self.saturation_tokens) or snapshot.costs.saturation_point()
        self._iteration_tokens = saturation
        iteration = _Iteration(
            snapshot.now_seconds,
            snapshot.costs,
            load.running_tokens,
            saturation,
            chunk_tokens(saturation, load.running_requests),
        )
        self._notice_fallen_load(iteration, len(snapshot.pauses))
        due = self._take_due(iteration)
        actions = self._swaps(snapshot, iteration, due)
        actions += self._discards(iteration, due)
        for pause in snapshot.pauses.undecided():
            actions.append(Keep(pause.id))
            if pause.held_tokens:
                self._watch(pause, iteration)
        review_seconds = None
        if self._watched:
            iteration_seconds = snapshot.costs.forward_seconds(load.running_requests)
            review_seconds = snapshot.now_seconds + iteration_seconds
        return Plan(actions, review_seconds)

    # What is due

    def _watch(self, pause: PauseView, iteration: _Iteration) -> None:
        watched = _Watched(pause, pause.freeable_tokens())
        self._may_be_swapped(watched)
        watched.due_seconds = self._preserved_until(watched, iteration)
        heappush(self._watched, watched)

    def _preserved_until(self, watched: _Watched, iteration: _Iteration) -> float:
        """When preserving becomes the greater waste, under this load."""
        if not watched.tokens:
            return iteration.now_seconds + SHARED_RECHECK_SECONDS
        break_even = iteration.break_even_seconds(watched.tokens)
        known = self._known_remaining_seconds(watched.pause)
        if known is None:
            return watched.pause.paused_seconds + break_even
        # A remaining time only gets shorter: unless it is too long now it will not be.
        return iteration.now_seconds + (0.0 if known > break_even else known)

    def _known_remaining_seconds(self, pause: PauseView) -> float | None:
        if self.remaining_seconds is None:
            return None
        return self.remaining_seconds(pause.id)

    def _estimated_seconds(self, pause: PauseView, iteration: _Iteration) -> float:
        """`T_int`."""
        known = self._known_remaining_seconds(pause)
        return iteration.now_seconds - pause.paused_seconds if known is None else known

    def _least_waste(self, watched: _Watched, iteration: _Iteration) -> LeastWaste:
        return least_waste(
            iteration.costs,
            watched.tokens,
            iteration.other_tokens,
            iteration.chunk_tokens,
            self._estimated_seconds(watched.pause, iteration),
        )

    def _notice_fallen_load(self, iteration: _Iteration, num_pauses: int) -> None:
        """Compute all due times again when many have become earlier; also when too many of
        those that are watched are over."""
        break_even = iteration.break_even_seconds(iteration.chunk_tokens)
        fallen = break_even < (1 - LOAD_TOLERANCE) * self._highest_break_even
        self._highest_break_even = max(self._highest_break_even, break_even)
        if not fallen and len(self._watched) <= 2 * num_pauses + 64:
            return
        self._highest_break_even = break_even
        self._watched = [watched for watched in self._watched if watched.is_held()]
        for watched in self._watched:
            if watched.swap_seconds is None:
                watched.due_seconds = self._preserved_until(watched, iteration)
        heapify(self._watched)

    def _take_due(self, iteration: _Iteration) -> list[_Watched]:
        """Take those that should not be preserved any longer, and look at the others later."""
        due: list[_Watched] = []
        later: list[_Watched] = []
        now = iteration.now_seconds
        while self._watched and self._watched[0].due_seconds <= now:
            watched = heappop(self._watched)
            if not watched.is_held():
                continue
            if watched.swap_seconds is not None:
                _notice_progress(watched, now)
                watched.due_seconds = watched.swap_given_up_seconds
            else:
                watched.tokens = watched.pause.freeable_tokens()
                self._may_be_swapped(watched)
                if self._least_waste(watched, iteration).disposition is Disposition.PRESERVE:
                    watched.due_seconds = self._preserved_until(watched, iteration)
                    later.append(watched)
                    continue
            (due if watched.due_seconds <= now else later).append(watched)
        for watched in later:
            heappush(self._watched, watched)
        return due

    # What becomes of it

    def _swaps(
        self, snapshot: Snapshot, iteration: _Iteration, due: list[_Watched]
    ) -> list[Action]:
        """Swap the most wasteful contexts, as far as this iteration's copy budget and host
        memory last."""
        backlog = snapshot.load.link_backlog_tokens
        room = snapshot.load.copy_budget_tokens - backlog
        free = snapshot.host.free_tokens - backlog
        if room <= 0 or free < self._smallest_tokens:
            return []
        now = iteration.now_seconds
        if not self._ranking or now - self._ranked_seconds >= RANK_SECONDS:
            self._rank([*due, *self._watched], iteration)
        chosen: list[Action] = []
        too_large: list[_Watched] = []
        while self._ranking and room > 0:
            watched = self._ranking.pop()
            if watched.swap_seconds is not None or not watched.is_held():
                continue
            if watched.tokens > free:
                too_large.append(watched)
                continue
            chosen.append(CopyOut(watched.pause.id))
            iterations = 1 + watched.tokens / snapshot.load.copy_budget_tokens
            iteration_seconds = iteration.costs.forward_seconds(iteration.saturation_tokens)
            watched.swap_seconds = COPY_PATIENCE * iterations * iteration_seconds
            watched.swap_given_up_seconds = now + watched.swap_seconds
            room -= watched.tokens
            free -= watched.tokens
        self._ranking += reversed(too_large)
        return chosen

    def _rank(self, watched: list[_Watched], iteration: _Iteration) -> None:
        candidates = [
            (self._waste_until_due(one, iteration), index, one)
            for index, one in enumerate(watched)
            if one.swap_seconds is None and one.tokens and one.is_held()
        ]
        candidates.sort()
        self._ranked_seconds = iteration.now_seconds
        self._ranking = [one for waste, _, one in candidates if waste > 0]
        smallest = min((one.tokens for _, _, one in candidates), default=None)
        self._smallest_tokens = float("inf") if smallest is None else smallest

    def _waste_until_due(self, watched: _Watched, iteration: _Iteration) -> float:
        """The least waste; until a context is due that is the waste of preserving it."""
        if watched.due_seconds <= iteration.now_seconds:
            return self._least_waste(watched, iteration).token_seconds
        seconds = self._estimated_seconds(watched.pause, iteration)
        return preserve_waste(watched.tokens, seconds)

    def _may_be_swapped(self, watched: _Watched) -> None:
        """As soon as host memory has room for it."""
        if watched.tokens:
            self._smallest_tokens = min(self._smallest_tokens, watched.tokens)

    def _discards(self, iteration: _Iteration, due: list[_Watched]) -> list[Action]:
        """Discard those that are due and were not chosen for a swap."""
        actions: list[Action] = []
        for watched in due:
            if watched.swap_given_up_seconds <= iteration.now_seconds:
                forget = self.forget_discarded != 0
                actions.append(Drop(watched.pause.id, forget=forget))
            else:
                watched.due_seconds = watched.swap_given_up_seconds
            heappush(self._watched, watched)  # until it is seen that it is gone
        return actions


def _notice_progress(watched: _Watched, now_seconds: float) -> None:
    """A copy that has got further is waited for."""
    assert watched.swap_seconds is not None
    if watched.pause.copied_tokens > watched.copied_tokens:
        watched.copied_tokens = watched.pause.copied_tokens
        watched.swap_given_up_seconds = now_seconds + watched.swap_seconds
