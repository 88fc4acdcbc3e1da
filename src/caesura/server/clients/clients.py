"""The part for clients that run their own tools: exact continuations, and reports."""

from argparse import Namespace

from fastapi import FastAPI
from starlette.datastructures import State

from caesura.server.clients import vllm_serving
from caesura.server.clients.middleware import TurnMiddleware


class ClientTurns:
    """Remembers what clients were answered, and continues from it when they come back."""

    def attach(self, app: FastAPI) -> None:
        """Tell the requests of these routes apart from all others."""
        app.add_middleware(TurnMiddleware)

    async def start(self, engine_client: object, state: State, args: Namespace) -> None:
        """Observe vLLM's serving objects."""
        vllm_serving.observe(engine_client, state)

    async def stop(self) -> None:
        """Nothing outlives a request but memory."""
