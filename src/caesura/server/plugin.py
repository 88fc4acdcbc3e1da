"""vLLM's endpoint plug-in `caesura`: attaches and starts the parts of Caesura's server.

vLLM loads it where `VLLM_PLUGINS` names it, as `caesura serve` does.
"""

from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.datastructures import State

from caesura.logs import configure_logging
from caesura.server.announcement import Announcement
from caesura.server.clients.vllm_serving import ClientTurns
from caesura.server.dashboard.dashboard import Dashboard
from caesura.server.loop_lag import LoopLag
from caesura.server.owners import Owners
from caesura.server.parts import Part, Parts
from caesura.server.sessions.vllm_sessions import ServerSessions

if TYPE_CHECKING:
    from vllm.engine.protocol import EngineClient

PARTS: tuple[Callable[[], Part], ...] = (
    ClientTurns,
    ServerSessions,
    Dashboard,
    LoopLag,
    Announcement,
)
"""What the server consists of. A new part is added here."""


class CaesuraPlugin:
    """What vLLM calls (`vllm.plugins.endpoint_plugins.interface.EndpointPlugin`)."""

    name = "caesura"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self._parts = Parts([make() for make in PARTS])

    def attach_router(self, app: FastAPI) -> None:
        """Called when vLLM builds the application."""
        configure_logging()
        self._parts.attach(app)

    async def init_state(
        self, engine_client: "EngineClient | None", state: State, args: Namespace
    ) -> None:
        """Called when vLLM's own state is complete; without an engine there is nothing to do."""
        if engine_client is not None:
            state.caesura_owners = Owners.of_server(args)
            await self._parts.start(engine_client, state, args)
