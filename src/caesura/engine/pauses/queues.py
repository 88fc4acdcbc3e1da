"""Waiting queues in which sessions have a rank."""

from collections.abc import Callable

from vllm.v1.core.sched.request_queue import FCFSRequestQueue
from vllm.v1.request import Request


class RankedQueue(FCFSRequestQueue):
    """vLLM's queue, in which requests that have a rank are put where it belongs.

    Requests without a rank are queued exactly as stock vLLM queues them; others are put before
    the first request of a higher rank (for requests without one: of a later arrival).

    Args:
        rank: a request's rank, None if it has none. It does not change while the request waits.
    """

    def __init__(self, rank: Callable[[Request], float | None]) -> None:
        super().__init__()
        self._rank = rank

    def add_request(self, request: Request) -> None:
        """Queue a request: at the end, or by its rank."""
        rank = self._rank(request)
        if rank is None:
            self.append(request)
        else:
            self._insert(request, rank)

    def prepend_request(self, request: Request) -> None:
        """Queue a preempted request: by its rank, or first, but behind ranked ones before it."""
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
        for index, queued in enumerate(self):
            other = self._rank(queued)
            if (queued.arrival_time if other is None else other) > rank:
                self.insert(index, request)
                return
        self.append(request)


def move_to_rank(
    running: list[Request], request: Request, rank: Callable[[Request], float | None]
) -> None:
    """Move a session that was just admitted to its place by rank among the running.

    The last of the running requests is preempted first, so an old session that has just
    resumed must not stay there.
    """

    def place_of(other: Request) -> float:
        found = rank(other)
        return other.arrival_time if found is None else found

    running.remove(request)
    own = place_of(request)
    for index, other in enumerate(running):
        if place_of(other) > own:
            running.insert(index, request)
            return
    running.append(request)
