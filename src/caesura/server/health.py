"""Whether the server is well, and whether it takes work: `/health` and `/ready`."""

from collections.abc import Iterator

from fastapi import Request
from starlette.datastructures import State
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from caesura.server.errors import ApiError, error_response
from caesura.server.sessions.service import STOPPING, Service
from caesura.session.supervisor import Supervisor

HEALTH_PATH = "/health"
READY_PATH = "/ready"


class Health:
    """Answers `/health` with 503 if only a restart can help, and `/ready` if work is to go
    elsewhere for now.

    A task that is down is started again by itself, and a full disk is not helped by a restart;
    `problems` tells of the first, and requests are answered with 503 for the second.

    Args:
        app: answers otherwise.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope["path"] if scope["type"] == "http" else None
        if path in (HEALTH_PATH, READY_PATH):
            error = _error(Request(scope).app.state, path)
            if error is not None:
                await error_response(error)(scope, receive, send)
                return
            if path == READY_PATH:
                await Response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def problems(state: State) -> list[str]:
    """What does not work and should; empty if all is well.

    Args:
        state: the application's.
    """
    supervisor: Supervisor = state.caesura_supervisor
    return [*(problem for problem, _ in _ills(state)), *supervisor.problems()]


def _ills(state: State) -> Iterator[tuple[str, str]]:
    """What only a restart can repair, and its code."""
    if getattr(getattr(state, "engine_client", None), "errored", False):
        yield "an engine is dead", "engine_dead"
    service = getattr(state, "caesura", None)
    problem = service.store.problem() if isinstance(service, Service) else None
    if problem is not None:
        yield problem, "unhealthy"


def _error(state: State, path: str) -> ApiError | None:
    for problem, code in _ills(state):
        return ApiError(503, f"{problem}: restart the server", code=code)
    if path == READY_PATH and getattr(state, "caesura", None) is STOPPING:
        return ApiError(503, "the server is stopping", code="stopping")
    return None
