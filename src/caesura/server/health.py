"""Whether the server is well: what `/health` says beside vLLM's own view of its engine."""

from fastapi import Request
from starlette.datastructures import State
from starlette.types import ASGIApp, Receive, Scope, Send

from caesura.server.errors import ApiError, error_response
from caesura.server.sessions.service import Service
from caesura.session.supervisor import Supervisor

HEALTH_PATH = "/health"


class Health:
    """Answers `/health` with 503 if only a restart can help.

    A task that is down is started again by itself, and a full disk is not helped by a restart;
    `problems` tells of the first, and requests are answered with 503 for the second.

    Args:
        app: answers otherwise.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] == HEALTH_PATH:
            service = getattr(Request(scope).app.state, "caesura", None)
            problem = service.store.problem() if isinstance(service, Service) else None
            if problem is not None:
                error = ApiError(503, f"{problem}: restart the server", code="unhealthy")
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def problems(state: State) -> list[str]:
    """What does not work and should; empty if all is well.

    Args:
        state: the application's.
    """
    supervisor: Supervisor = state.caesura_supervisor
    service = getattr(state, "caesura", None)
    problem = service.store.problem() if isinstance(service, Service) else None
    return [*([] if problem is None else [problem]), *supervisor.problems()]
