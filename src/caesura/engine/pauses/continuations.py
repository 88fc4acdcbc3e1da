"""Pauses of clients that run their own tools: which requests leave one, which continue one.

Towards its client such a request is finished. Whether it will be continued shows in what it
generated (a tool call), in a session id, or in the fact that it continued a pause itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vllm.v1.request import Request, RequestStatus

from caesura.endpoints import CLIENT, CODE, EndpointNames, endpoint_name
from caesura.engine.config import KeepContexts
from caesura.engine.pauses.keeper import PauseKeeper
from caesura.engine.pauses.pause import Pause
from caesura.engine.pauses.ranks import SessionRanks
from caesura.engine.protocol import (
    endpoint_of,
    keep_seconds_of,
    may_call_tools,
    owner_of,
    wants_report,
)


@dataclass(slots=True, eq=False)
class Continuations:
    """Recognises paused contexts by what is generated and by what is sent."""

    keeper: PauseKeeper
    ranks: SessionRanks
    keep: KeepContexts
    tools_called: Callable[[Sequence[int]], list[str]] | None
    stopped: Callable[[Sequence[int], Sequence[str]], bool]
    _continuing: set[str] = field(default_factory=set, init=False)
    # What a session in place will wait for.
    _upcoming: dict[str, str] = field(default_factory=dict, init=False)
    names: EndpointNames = field(default_factory=EndpointNames, init=False)

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
        if self.keep is KeepContexts.NONE:
            return None
        at_string = self._ended_at_string(request)
        if not at_string and not _ended_by_itself(request):
            return None
        endpoint = self._named_endpoint(request)
        if endpoint is not None:
            return endpoint
        if at_string:
            return CODE
        expected = (
            request.session_id is not None
            or request.request_id in self._continuing
            or keep_seconds_of(request) is not None
        )
        return CLIENT if expected or self.keep is KeepContexts.ALL else None

    def name_next(self, session_id: str, endpoint: str) -> None:
        """Note what a request or a session in place will wait for when it pauses next."""
        self._upcoming[session_id] = endpoint_name(endpoint)

    def name_pause(self, pause_id: str, endpoint: str) -> None:
        """Name what a paused session waits for; see `Waits.name_endpoint`."""
        pause = self.keeper.table.get(pause_id)
        if pause is not None:
            self.keeper.waits.name_endpoint(pause_id, self.names.admit(endpoint, pause.owner))

    def waits_for(self, session: Request) -> str:
        """What a session in place waits for when its turn has stopped."""
        return self._named_endpoint(session) or CLIENT

    def _named_endpoint(self, request: Request) -> str | None:
        """What was said that the request waits for, or the tool that its output calls."""
        endpoint = self._upcoming.pop(request.request_id, None) or endpoint_of(request)
        if endpoint is None:
            endpoint = self._tools_called(request)
        return None if endpoint is None else self.names.admit(endpoint, owner_of(request))

    def _tools_called(self, request: Request) -> str | None:
        """The tool that the request's output calls; several are joined with "+"."""
        if self.tools_called is None or not may_call_tools(request):
            return None
        names = self.tools_called(request.output_token_ids)
        return "+".join(sorted(set(names))) if names else None

    def _ended_at_string(self, request: Request) -> bool:
        """Whether a turn of a client's conversation ended at a stop string. The client runs what
        was written before it: code, or calls in a format of its own.

        vLLM aborts the request then, but the model may have ended its turn before that comes.
        """
        params = request.sampling_params
        if params is None or not params.stop:
            return False
        stops = [params.stop] if isinstance(params.stop, str) else params.stop
        return wants_report(request) and self.stopped(request.output_token_ids, stops)

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
