"""Sessions in place between their turns: those that vLLM's queues do not have, or misplace.

vLLM knows a session as a request that waits or runs. `Parking` knows it at all other times:

    QUEUED --turn stops--> STOPPED --no tokens wait--> PARKED --too many pauses--> DETACHED
      ^                       |                         |                          ^    |
      +----- tokens wait -----+------- tokens come -----+--> FULL --end of step----+  told
                                                                                      v
    QUEUED --blocks are given back--> RELEASED --end of step--> QUEUED            LET_GO

From each state a session may end. Every other change is a fault, and raises AssertionError.
"""

from enum import StrEnum

from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus


class SessionState(StrEnum):
    """Where a session is; one at a time."""

    QUEUED = "queued"  # vLLM has it, or nobody
    STOPPED = "stopped"  # its turn stopped in the step whose results are taken
    PARKED = "parked"  # it waits for more tokens, outside of vLLM's queues
    FULL = "full"  # what was appended leaves no room to generate
    DETACHED = "detached"  # its engine request is over, which its client is not told yet
    LET_GO = "let go"  # its client has been told, but has not given the request up
    RELEASED = "released"  # it waits without blocks among requests that have some


_NEXT = {
    SessionState.QUEUED: {SessionState.STOPPED, SessionState.RELEASED},
    SessionState.STOPPED: {SessionState.QUEUED, SessionState.PARKED, SessionState.FULL},
    SessionState.PARKED: {SessionState.QUEUED, SessionState.FULL, SessionState.DETACHED},
    SessionState.FULL: {SessionState.DETACHED},
    SessionState.DETACHED: {SessionState.LET_GO},
    SessionState.LET_GO: set[SessionState](),
    SessionState.RELEASED: {SessionState.QUEUED},
}


class Parking:
    """The states of sessions in place.

    Args:
        scheduler: vLLM's, with its queues and the blocks of its requests.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._states: dict[str, SessionState] = {}  # QUEUED is not entered
        self._requests: dict[SessionState, dict[str, Request]] = {
            state: {} for state in SessionState if state is not SessionState.LET_GO
        }

    def state(self, request_id: str) -> SessionState:
        """Where a session is."""
        return self._states.get(request_id, SessionState.QUEUED)

    def in_state(self, state: SessionState) -> list[Request]:
        """The sessions in a state, in the order in which they came into it."""
        return list(self._requests[state].values())

    def parked(self, request_id: str) -> Request | None:
        """The session of that id, if it is parked."""
        return self._requests[SessionState.PARKED].get(request_id)

    def num_parked(self) -> int:
        """How many sessions are parked."""
        return len(self._requests[SessionState.PARKED])

    def is_let_go(self, request_id: str) -> bool:
        """Whether tokens may still come for a request that the engine has ended."""
        return self.state(request_id) in (SessionState.DETACHED, SessionState.LET_GO)

    # Changes

    def stop(self, session: Request) -> None:
        """A session's turn has stopped; it is settled at the end of the step."""
        self._move(session, SessionState.STOPPED)

    def park(self, session: Request) -> None:
        """A session whose turn stopped waits for more tokens."""
        self._move(session, SessionState.PARKED)
        session.status = RequestStatus.WAITING_FOR_STREAMING_REQ

    def queue(self, session: Request) -> None:
        """A session has more tokens: it waits in vLLM's queues, if it has room to generate."""
        if session.num_tokens < self._scheduler.max_model_len:
            self._move(session, SessionState.QUEUED)
            self._scheduler._enqueue_waiting_request(session)
        else:
            self._move(session, SessionState.FULL)

    def let_go(self, session: Request) -> None:
        """End the engine request of a session that has not ended: it goes on with a new one."""
        self._check(session.request_id, SessionState.DETACHED)
        self._scheduler.finish_requests(session.request_id, RequestStatus.FINISHED_ABORTED)
        self._enter(session, SessionState.DETACHED)

    def take_detached(self) -> list[Request]:
        """Sessions whose clients are now told that they were let go."""
        detached = self.in_state(SessionState.DETACHED)
        for session in detached:
            self._move(session, SessionState.LET_GO)
        return detached

    def end(self, request_id: str) -> bool:
        """A request ends, or its client gives it up. Returns whether it was parked."""
        session = self.parked(request_id)
        if session is not None:
            session.status = RequestStatus.WAITING  # vLLM would not count it as parked
        self._leave(request_id)
        return session is not None

    # Blocks

    def can_free(self, session: Request) -> bool:
        """Whether no iteration in flight may still write the session's blocks."""
        return self._scheduler._request_blocks_can_be_freed(session)

    def free(self, session: Request) -> None:
        """Give the own blocks of a parked session or of a waiting request back."""
        self._scheduler._free_request_blocks(session)
        session.num_computed_tokens = 0
        if self.state(session.request_id) is SessionState.QUEUED:
            self._move(session, SessionState.RELEASED)

    def requeue_released(self) -> None:
        """Move waiting requests that lost their blocks to the queue of those that hold none."""
        holding = self._scheduler.kv_holding_waiting
        for request in self.in_state(SessionState.RELEASED):
            self._move(request, SessionState.QUEUED)
            if request in holding and not self._scheduler._holds_kv_blocks(request):
                holding.remove_request(request)
                self._scheduler.waiting.add_request(request)

    # Books

    def is_empty(self) -> bool:
        """Whether all sessions that have not ended are vLLM's (integrity check)."""
        return not any(self._requests.values())

    def _check(self, request_id: str, state: SessionState) -> None:
        before = self.state(request_id)
        assert state in _NEXT[before], f"session {request_id} is {before} and cannot be {state}"

    def _move(self, session: Request, state: SessionState) -> None:
        self._check(session.request_id, state)
        self._enter(session, state)

    def _enter(self, session: Request, state: SessionState) -> None:
        self._leave(session.request_id)
        if state is not SessionState.QUEUED:
            self._states[session.request_id] = state
        if state not in (SessionState.QUEUED, SessionState.LET_GO):
            self._requests[state][session.request_id] = session

    def _leave(self, request_id: str) -> None:
        state = self._states.pop(request_id, SessionState.QUEUED)
        if state is not SessionState.LET_GO:
            self._requests[state].pop(request_id, None)
