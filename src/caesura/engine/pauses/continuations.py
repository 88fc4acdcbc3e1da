"""Pauses of clients that run their own tools: which requests leave one, which continue one.

Towards its client such a request is finished. Whether it will be continued shows in what it
generated (a tool call), in a session id, or in the fact that it continued a pause itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vllm.v1.request import Request, RequestStatus

from caesura.endpoints import CLIENT
from caesura.engine.config import KeepContexts
from caesura.engine.pauses.keeper import PauseKeeper
from caesura.engine.pauses.pause import Pause
from caesura.engine.pauses.ranks import SessionRanks
from caesura.engine.protocol import endpoint_of, owner_of

OTHER = "other"
MAX_ENDPOINTS = 64


@dataclass(slots=True, eq=False)
class Continuations:
    """Recognises paused contexts by what is generated and by what is sent."""

    keeper: PauseKeeper
    ranks: SessionRanks
    keep: KeepContexts
    tools_called: Callable[[Sequence[int]], list[str]] | None
    _continuing: set[str] = field(default_factory=set, init=False)
    # What a session in place will wait for.
    _upcoming: dict[str, str] = field(default_factory=dict, init=False)
    _endpoints: set[str] = field(default_factory=set, init=False)

    def find(self, request: Request) -> Pause | None:
        """The pause that a new request continues."""
        if len(self.keeper.table) == 0 or request.pooling_params is not None:
            return None
        pause = self.keeper.table.find_continued(
            request.session_id, owner_of(request), request.block_hashes, request.num_tokens
        )
        if pause is not None:
            self._continuing.add(request.request_id)
        return pause

    def claim(self, request: Request) -> None:
        """If a new request continues a paused context, it takes that context's place."""
        pause = self.find(request)
        if pause is None:
            return
        self.keeper.claim(pause, request)
        if self.ranks.order is not None:
            request.arrival_time = pause.service.arrival_seconds
        self.ranks.returns(request.request_id, pause)

    def endpoint_at_end(self, request: Request) -> str | None:
        """What a finished request's session waits for; None when it is not kept."""
        if request.resumable or request.pooling_params is not None:
            return None
        if self.keep is KeepContexts.NONE or not _ended_by_itself(request):
            return None
        endpoint = self._named_endpoint(request)
        if endpoint is not None:
            return endpoint
        expected = request.session_id is not None or request.request_id in self._continuing
        return CLIENT if expected or self.keep is KeepContexts.ALL else None

    def name_next(self, session_id: str, endpoint: str) -> None:
        """Note what a session in place that generates will wait for when it pauses next."""
        self._upcoming[session_id] = endpoint

    def waits_for(self, session: Request) -> str:
        """What a session in place waits for when its turn has stopped."""
        named = self._upcoming.pop(session.request_id, None)
        if named is not None:
            return self.limited(named)
        return self._named_endpoint(session) or CLIENT

    def _named_endpoint(self, request: Request) -> str | None:
        """What the request says that it waits for, or the tool that its output calls."""
        endpoint = endpoint_of(request) or self._tool_called(request)
        return None if endpoint is None else self.limited(endpoint)

    def _tool_called(self, request: Request) -> str | None:
        """The tool that the request's output calls; several are joined with "+"."""
        if self.tools_called is None or not request.num_output_tokens:
            return None
        names = self.tools_called(list(request.output_token_ids))
        return "+".join(sorted(set(names))) if names else None

    def limited(self, endpoint: str) -> str:
        """The endpoint, or "other" past a number of names: a model may invent any."""
        if endpoint not in self._endpoints and len(self._endpoints) >= MAX_ENDPOINTS:
            return OTHER
        self._endpoints.add(endpoint)
        return endpoint

    def discard(self, request_id: str) -> None:
        """The request is gone."""
        self._continuing.discard(request_id)
        self._upcoming.pop(request_id, None)

    def is_empty(self) -> bool:
        """Whether nothing is remembered of any request (integrity check)."""
        return not self._continuing and not self._upcoming


def _ended_by_itself(request: Request) -> bool:
    return request.status in (
        RequestStatus.FINISHED_STOPPED,
        RequestStatus.FINISHED_LENGTH_CAPPED,
    )
