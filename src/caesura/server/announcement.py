"""The log messages of a server that is ready: its tools, who may use it, and its addresses."""

import logging
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import State

from caesura.server.access import Access, is_local
from caesura.server.sessions.service import Service, Unavailable

logger = logging.getLogger(__name__)

_EVERYWHERE = {None, "", "0.0.0.0", "::"}
_DEFAULT_URLS = {"http://localhost:8000", "http://127.0.0.1:8000"}  # of `caesura chat`
_NAMED_TOOLS = 20


class Announcement:
    """The part that writes it, last of all: behind the lines of vLLM's own start."""

    def attach(self, app: FastAPI) -> None:
        """Wait for the application to be ready."""
        lifespan = app.router.lifespan_context

        @asynccontextmanager
        async def announced(app: FastAPI) -> AsyncIterator[Any]:
            async with lifespan(app) as state:
                for level, line in self._lines:
                    logger.log(level, line)
                yield state

        app.router.lifespan_context = announced

    @asynccontextmanager
    async def running(
        self, engine_client: object, state: State, args: Namespace
    ) -> AsyncIterator[None]:
        """Prepare the lines."""
        sessions: Service | Unavailable = state.caesura
        self._lines: list[tuple[int, str]] = [
            _sessions(sessions),
            (logging.INFO, _tools(sessions)),
            _open_to(state.caesura_access, args),
            (logging.INFO, _what_now(sessions, state.caesura_access, args)),
        ]
        yield


def _sessions(sessions: Service | Unavailable) -> tuple[int, str]:
    if isinstance(sessions, Unavailable):
        return logging.WARNING, f"This server runs no sessions: {sessions.reason}"
    going_on = len(sessions.agents.running)
    return logging.INFO, f"Sessions are kept in {sessions.database} ({going_on} of them open)"


def _tools(sessions: Service | Unavailable) -> str:
    names = [] if isinstance(sessions, Unavailable) else sorted(sessions.executor.names())
    if not names:
        return "Tools that the server runs: none (they are configured in a file, see --config)"
    more = f" and {len(names) - _NAMED_TOOLS} more" if len(names) > _NAMED_TOOLS else ""
    return f"Tools that the server runs: {', '.join(names[:_NAMED_TOOLS])}{more}"


def _open_to(access: Access, args: Namespace) -> tuple[int, str]:
    where = f"unix:{args.uds}" if args.uds else _url(args, args.host or "0.0.0.0")
    if access.has_keys:
        everybody = "/health, /ping and the dashboard's page"
        return logging.INFO, f"Open at {where} to anyone with an API key; {everybody} to everybody"
    if is_local(args.host, args.uds):
        return logging.INFO, f"Open at {where} to everybody on this machine (there is no API key)"
    return (
        logging.WARNING,
        f"Open at {where} to everybody who reaches it (there is no API key): everybody may read "
        "and steer all sessions, answer for their users, and run what tools there are",
    )


def _what_now(sessions: Service | Unavailable, access: Access, args: Namespace) -> str:
    if args.uds:
        return f"Dashboard: /dashboard/ on unix:{args.uds}"
    url = _url(args, "localhost" if args.host in _EVERYWHERE else args.host)
    if isinstance(sessions, Unavailable):
        return f"Dashboard: {url}/dashboard/"
    command = "caesura chat"
    if url not in _DEFAULT_URLS:
        command += f" --url {url}"
    if access.has_keys:
        command += " --api-key KEY"
    return f"Dashboard: {url}/dashboard/; now type `{command}`"


def _url(args: Namespace, host: str) -> str:
    scheme = "https" if args.ssl_keyfile and args.ssl_certfile else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{args.port}"
