"""vLLM's endpoint plug-in `caesura`: attaches and starts the parts of Caesura's server.

vLLM loads it where `VLLM_PLUGINS` names it, as `caesura serve` does.
"""

from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.datastructures import State

from caesura.engine.config import CaesuraConfig
from caesura.engine.serving.engines import homes_on
from caesura.logs import configure_logging
from caesura.server.access import Access, require_closed
from caesura.server.announcement import Announcement
from caesura.server.clients.vllm_serving import ClientTurns
from caesura.server.dashboard.dashboard import Dashboard
from caesura.server.gate import GatePart
from caesura.server.loop_lag import LoopLag
from caesura.server.owners import Owners
from caesura.server.parts import Part, Parts
from caesura.server.sessions.vllm_sessions import ServerSessions
from caesura.server.settings import server_configuration
from caesura.server.socket.responses_socket import ResponsesSockets
from caesura.server.stored.vllm_responses import KeptResponses
from caesura.session.places import OwnersPlaces
from caesura.session.supervisor import Supervisor

if TYPE_CHECKING:
    from vllm.engine.protocol import EngineClient

PARTS: tuple[Callable[[], Part], ...] = (
    GatePart,
    ClientTurns,
    ServerSessions,
    KeptResponses,
    ResponsesSockets,
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
        if engine_client is None:
            return
        config = CaesuraConfig.from_vllm(engine_client.vllm_config)
        settings = server_configuration(config.config_file).settings
        state.caesura_settings = settings
        state.caesura_access = access = Access.of_server(args, config.allowed_hosts, settings.keys)
        state.caesura_supervisor = Supervisor()
        state.caesura_owners = Owners(access.has_keys)
        state.caesura_places = OwnersPlaces(settings.generating_of)
        state.caesura_homes = homes_on(engine_client)
        access.require_operators(settings)
        if not access.has_keys:
            has_tools = bool(settings.tools or settings.mcp)
            require_closed(
                args.host, args.uds, has_tools=has_tools, insecure=config.insecure_no_key
            )
        await self._parts.start(engine_client, state, args)
