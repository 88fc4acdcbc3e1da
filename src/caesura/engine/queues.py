"""Waiting queues in which a returning session takes its original place."""

from vllm.v1.core.sched.request_queue import FCFSRequestQueue
from vllm.v1.request import Request


class ArrivalQueue(FCFSRequestQueue):
    """First come, first served by original arrival.

    Requests that never paused are queued exactly as stock vLLM queues them. A session that
    returns from a pause is put before the first request that arrived later than it did.

    Attributes:
        returned: ids of requests that have been paused; shared with the scheduler.
    """

    def __init__(self, returned: set[str]) -> None:
        super().__init__()
        self.returned = returned

    def add_request(self, request: Request) -> None:
        """Queue a request: at the end, or by arrival if its session has paused before."""
        if request.request_id in self.returned:
            self._insert_by_arrival(request)
        else:
            self.append(request)

    def prepend_request(self, request: Request) -> None:
        """Queue a preempted request: first, but behind returning sessions that came earlier."""
        if request.request_id in self.returned:
            self._insert_by_arrival(request)
            return
        index = 0
        for queued in self:
            if queued.request_id not in self.returned:
                break
            if queued.arrival_time > request.arrival_time:
                break
            index += 1
        self.insert(index, request)

    def _insert_by_arrival(self, request: Request) -> None:
        for index, queued in enumerate(self):
            if queued.arrival_time > request.arrival_time:
                self.insert(index, request)
                return
        self.append(request)


def move_to_arrival_position(running: list[Request], request: Request) -> None:
    """Move a session that was just admitted to its place by arrival among the running.

    The last of the running requests is preempted first, so an old session that has just
    resumed must not stay there.
    """
    running.remove(request)
    for index, other in enumerate(running):
        if other.arrival_time > request.arrival_time:
            running.insert(index, request)
            return
    running.append(request)
