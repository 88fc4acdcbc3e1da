"""The parts of Caesura's server: what each adds to vLLM's, started and stopped in order."""

from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

from fastapi import FastAPI
from starlette.datastructures import State


class Part(Protocol):
    """One thing that the server adds: routes, middleware, or what they need."""

    def attach(self, app: FastAPI) -> None:
        """Add routes and middleware, before the engine is there."""

    def running(
        self, engine_client: Any, state: State, args: Namespace
    ) -> AbstractAsyncContextManager[None]:
        """Work begins on entering, and ends on leaving. vLLM's own state is complete by then.

        Args:
            engine_client: vLLM's.
            state: the application's, with vLLM's serving objects.
            args: vLLM's command line.
        """
        ...


class Parts:
    """All parts of one server.

    Args:
        parts: in the order in which they are attached and started; they stop in the reverse order.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._running = AsyncExitStack()

    def attach(self, app: FastAPI) -> None:
        """Attach every part, and see to it that they stop when the application does."""
        for part in self._parts:
            part.attach(app)
        lifespan = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan_with_parts(app: FastAPI) -> AsyncIterator[Any]:
            async with lifespan(app) as state, self._running:
                yield state

        app.router.lifespan_context = lifespan_with_parts

    async def start(self, engine_client: Any, state: State, args: Namespace) -> None:
        """Start every part; if one fails, those before it are stopped again."""
        async with AsyncExitStack() as started:
            for part in self._parts:
                await started.enter_async_context(part.running(engine_client, state, args))
            self._running = started.pop_all()
