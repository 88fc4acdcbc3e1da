"""Ranks of requests: what each session has had, and who makes room for whom."""

from collections.abc import Callable, Sequence

from vllm.v1.request import Request

from caesura.engine.pauses.table import Pause
from caesura.policy import Service, SessionOrder


class SessionRanks:
    """What sessions have had so far, and their ranks by the policy's order.

    Args:
        order: the policy's; None leaves all requests where vLLM puts them.
        pauses_in_use: whether anything pauses here, seen from a request that has not.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        order: SessionOrder | None,
        pauses_in_use: Callable[[Request], bool],
        clock: Callable[[], float],
    ) -> None:
        self.order = order
        self._pauses_in_use = pauses_in_use
        self._clock = clock
        self._services: dict[str, Service] = {}  # by request; of sessions that have paused

    def __contains__(self, request_id: str) -> bool:
        """Whether the request's session has paused, or was interrupted."""
        return request_id in self._services

    def is_empty(self) -> bool:
        """Whether nothing is remembered (integrity check)."""
        return not self._services

    def returns(self, request_id: str, pause: Pause) -> None:
        """A session's pause is over: it goes on as this request."""
        if self.order is not None:
            elapsed = self._clock() - pause.paused_seconds
            self._services[request_id] = pause.service.paused(elapsed)

    def turns(self, request: Request) -> None:
        """A session goes on with a new turn, without a pause."""
        if self.order is not None:
            self._services[request.request_id] = self.service(request)

    def forget(self, request_id: str) -> None:
        """The request is gone."""
        self._services.pop(request_id, None)

    def service(self, request: Request) -> Service:
        """What the request's session has had until now."""
        before = self._services.get(request.request_id) or Service(request.arrival_time)
        return before.served(request.num_output_tokens, request.num_tokens)

    def rank(self, request: Request) -> float | None:
        """The request's rank; None where vLLM's own order holds."""
        order = self.order
        if order is None:
            return None
        ranked = request.request_id in self._services
        if not ranked and not (order.ranks_everyone and self._pauses_in_use(request)):
            return None
        return order.rank(self.service(request))

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
