"""Ranks of requests: what each session has had, who makes room for whom, and who waits where."""

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.request_queue import FCFSRequestQueue, RequestQueue
from vllm.v1.request import Request

from caesura.engine.pauses.pause import Pause
from caesura.policy import Service, SessionOrder, Turn

_FIRST = -1e12
"""A rank before all that are times."""

RANK_EVERY_TOKENS = 16
"""A running request's rank is computed again after so many tokens."""


@dataclass(slots=True, eq=False)
class SessionRanks:
    """What sessions have had so far, and their ranks by the policy's order.

    A request's rank stays as it is while it waits, until the order is of another generation.

    Attributes:
        order: the policy's; None for vLLM's.
        pauses_in_use: whether anything pauses; else vLLM's order holds.
        clock: monotonic seconds.
        turn_of: what a request's turn takes.
    """

    order: SessionOrder | None
    pauses_in_use: Callable[[Request], bool]
    clock: Callable[[], float]
    turn_of: Callable[[Request], Turn]
    # By request; of sessions that have paused.
    _services: dict[str, Service] = field(default_factory=dict, init=False)
    # By request: its output tokens and its rank when that was computed.
    _ranks: dict[str, tuple[int, float]] = field(default_factory=dict, init=False)
    # Requests that wait, the one that has waited for longest first.
    _waiting: dict[str, Request] = field(default_factory=dict, init=False)
    # Requests that go before all others, in the order in which they were promoted.
    _promoted: dict[str, Request] = field(default_factory=dict, init=False)
    _promotions: int = field(default=0, init=False)
    _generation: int = field(default=0, init=False)

    def __contains__(self, request_id: str) -> bool:
        """Whether the request's session has paused, or was interrupted."""
        return request_id in self._services

    def is_empty(self) -> bool:
        """Whether nothing is remembered of any request (integrity check)."""
        return not (self._services or self._ranks or self._waiting or self._promoted)

    def returns(self, request_id: str, pause: Pause) -> None:
        """A session's pause is over: it goes on as this request."""
        if self.order is not None:
            elapsed = self.clock() - pause.paused_seconds
            self._services[request_id] = pause.service.paused(elapsed, pause.endpoint, pause.owner)
            self.turn_over(request_id)

    def turns(self, request: Request) -> None:
        """A session goes on with a new turn, without a pause."""
        if self.order is not None:
            self._services[request.request_id] = self.service(request)
            self.turn_over(request.request_id)

    def turn_over(self, request_id: str) -> None:
        """A session's turn is over: what it has next is ranked anew."""
        self._ranks.pop(request_id, None)
        self._promoted.pop(request_id, None)

    def queued(self, request: Request) -> None:
        """A request waits. It may get a rank later, when anything pauses."""
        if self.order is not None:
            self._waiting.setdefault(request.request_id, request)

    def admitted(self, request: Request) -> None:
        """A request waits no longer."""
        self._waiting.pop(request.request_id, None)

    def preempted(self, request: Request) -> None:
        """A running request waits again."""
        if request.request_id not in self._promoted:
            self._ranks.pop(request.request_id, None)

    def renew(self, *queues: RequestQueue) -> None:
        """If so much was learned that ranks are of another generation, rank all that wait."""
        if self.order is None or self.order.generation == self._generation:
            return
        self._generation = self.order.generation
        for request_id in self._waiting.keys() - self._promoted.keys():
            self._ranks.pop(request_id, None)
        for queue in queues:
            if isinstance(queue, RankedQueue):
                queue.rank_anew()

    # Promotions

    def longest_waiting(self) -> Request | None:
        """The request that has waited for longest; None if it has no rank."""
        oldest = next(iter(self._waiting.values()), None)
        return None if oldest is None or self.rank(oldest) is None else oldest

    def promoted(self) -> Collection[Request]:
        """Requests that were promoted and whose turn is not over."""
        return self._promoted.values()

    def promote(self, request: Request) -> None:
        """From now on the request goes before all others but those that were promoted before."""
        self._promotions += 1
        self._promoted[request.request_id] = request
        self._ranks[request.request_id] = sys.maxsize, _FIRST + self._promotions

    def gone(self, request: Request, *, paused: bool) -> None:
        """The request is gone, and its session is over unless it has paused."""
        if self.order is not None and not paused:
            self.order.ended(self.service(request))
        self._services.pop(request.request_id, None)
        self._waiting.pop(request.request_id, None)
        self.turn_over(request.request_id)

    def service(self, request: Request) -> Service:
        """What the request's session has had until now."""
        before = self._services.get(request.request_id)
        if before is None:
            before = Service.begun(request.arrival_time, request.num_prompt_tokens)
        return before.served(request.num_output_tokens, request.num_tokens)

    def rank(self, request: Request) -> float | None:
        """The request's rank; None where vLLM's own order holds."""
        order = self.order
        if order is None:
            return None
        output_tokens = request.num_output_tokens
        known = self._ranks.get(request.request_id)
        if known is not None and output_tokens < known[0] + RANK_EVERY_TOKENS:
            return known[1]
        ranked = request.request_id in self._services
        if not ranked and not (order.ranks_everyone and self.pauses_in_use(request)):
            return None
        rank = order.rank(self.service(request), self.turn_of(request))
        self._ranks[request.request_id] = output_tokens, rank
        return rank

    def make_room_for(self, needy: Request, running: Sequence[Request]) -> list[Request]:
        """Running requests that rank so far behind a waiting one that they make room for it,
        the last first."""
        rank = self.rank(needy)
        if self.order is None or self.order.displacement_margin_seconds is None or rank is None:
            return []
        limit = rank + self.order.displacement_margin_seconds
        ranked = [
            (other, request)
            for request in running
            if (other := self.rank(request)) is not None and other > limit
        ]
        ranked.sort(key=lambda pair: pair[0], reverse=True)
        return [request for _, request in ranked]


class RankedQueue(FCFSRequestQueue):
    """vLLM's queue, in which requests that have a rank are put where it belongs.

    Requests without a rank are queued exactly as stock vLLM queues them; others are put before
    the first request of a higher rank (for requests without one: of a later arrival).

    Requests whose paused context still holds device memory come first, as vLLM serves requests
    that have blocks first: they take little that is free, and what they hold is of no use as long
    as they wait. Behind a request that does not fit they would.

    Args:
        rank: a request's rank, None if it has none. It does not change while the request waits.
        queued: is told of requests that wait here.
        holds: whether the paused context that a request continues holds device memory.
    """

    def __init__(
        self,
        rank: Callable[[Request], float | None],
        queued: Callable[[Request], None],
        holds: Callable[[Request], bool] = lambda request: False,
    ) -> None:
        super().__init__()
        self._rank = rank
        self._queued = queued
        self._holds = holds
        self._first: set[str] = set()  # requests that were put here as holding memory

    def rank_anew(self) -> None:
        """Order the requests that wait here by new ranks."""
        waiting = list(self)
        self.clear()
        for request in waiting:
            self.add_request(request)

    def settle(self) -> None:
        """Move requests whose memory was taken while they waited behind those that hold some."""
        first = list(takewhile(lambda request: request.request_id in self._first, self))
        self._first = {request.request_id for request in first}
        for request in first:
            if not self._holds(request):
                self.move_to_rank(request)

    def move_to_rank(self, request: Request) -> None:
        """Move a request that waits here to its place by a new rank."""
        self._first.discard(request.request_id)
        self.remove_request(request)
        self.add_request(request)

    def add_request(self, request: Request) -> None:
        """Queue a request: at the end, or by its rank."""
        self._queued(request)
        rank = self._rank(request)
        if rank is None:
            self.append(request)
        else:
            self._insert(request, rank)

    def prepend_request(self, request: Request) -> None:
        """Queue a preempted request: by its rank, or first, but behind ranked ones before it."""
        self._queued(request)
        rank = self._rank(request)
        if rank is not None:
            self._insert(request, rank)
            return
        index = 0
        for queued in self:
            ahead = self._rank(queued)
            if ahead is None or ahead > request.arrival_time:
                break
            index += 1
        self.insert(index, request)

    def _insert(self, request: Request, rank: float) -> None:
        if self._holds(request):
            self._first.add(request.request_id)
        place = self._place(request, rank)
        for index, queued in enumerate(self):
            other = self._rank(queued)
            if self._place(queued, queued.arrival_time if other is None else other) > place:
                self.insert(index, request)
                return
        self.append(request)

    def _place(self, request: Request, rank: float) -> tuple[bool, float]:
        """Those that were promoted come first, too: their ranks are before all times."""
        return request.request_id not in self._first and rank >= 0, rank


def admitted_ids(output: SchedulerOutput) -> list[str]:
    """The requests that a step has taken from the queues."""
    cached = output.scheduled_cached_reqs
    new = [data.req_id for data in output.scheduled_new_reqs]
    return [*new, *(name for name in cached.req_ids if name in cached.resumed_req_ids)]


def move_to_rank(
    running: list[Request], request: Request, rank: Callable[[Request], float | None]
) -> None:
    """Move a request that was just admitted to its place by rank among the running; one without
    a rank stays where vLLM puts it.

    The last of the running requests is preempted first, so an old session that has just
    resumed must not stay there.
    """
    own = rank(request)
    if own is None:
        return
    running.remove(request)
    for index, other in enumerate(running):
        found = rank(other)
        if (other.arrival_time if found is None else found) > own:
            running.insert(index, request)
            return
    running.append(request)
