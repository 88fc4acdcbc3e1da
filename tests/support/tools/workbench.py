"""What the tests of tools share: a journal, a server in this event loop, a quick toolbox."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from caesura.tools import (
    Answer,
    CallResult,
    Executor,
    Question,
    Timing,
    Toolbox,
    ToolCall,
    load_configuration,
    open_toolbox,
)

_IDS = count(1)


@dataclass
class Journal:
    """Keeps what it is told. Questions wait until `answers` has their key, or `reply` is set."""

    reply: Answer | None = None
    owner: str = "owner"
    answers: dict[str, Answer] = field(default_factory=dict)
    dispatched: list[tuple[str, int]] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    reports: list[tuple[str, float | None, float | None, str | None]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def dispatching(self, call: ToolCall, attempt: int) -> None:
        self.dispatched.append((call.id, attempt))

    async def ask(self, question: Question) -> Answer:
        self.questions.append(question)
        self.asked.set()
        while question.key not in self.answers:
            if self.reply is not None:
                self.answers[question.key] = self.reply
                break
            self.answered.clear()
            await self.answered.wait()
        return self.answers[question.key]

    def answer(self, key: str, answer: Answer) -> None:
        self.answers[key] = answer
        self.answered.set()

    def progress(
        self,
        call: ToolCall,
        fraction: float | None,
        remaining_seconds: float | None,
        message: str | None,
    ) -> None:
        self.reports.append((call.id, fraction, remaining_seconds, message))


@dataclass
class Clock:
    """Time that passes only by sleeping."""

    seconds: float = 1000.0
    slept: list[float] = field(default_factory=list)
    chance: float = 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)

    def timing(self) -> Timing:
        return Timing(lambda: self.seconds, self.sleep, lambda: self.chance)


def call(name: str, arguments_text: str = "", call_id: str | None = None) -> ToolCall:
    return ToolCall(call_id or f"call-{next(_IDS)}", name, arguments_text, "session-1")


@dataclass
class Workbench:
    """An executor on an open toolbox, with its journal, clock and metrics."""

    executor: Executor
    journal: Journal
    clock: Clock
    registry: CollectorRegistry
    toolbox: Toolbox

    async def run(self, name: str, arguments_text: str = "") -> CallResult:
        return await self.executor.execute(call(name, arguments_text), self.journal)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def workbench(
    directory: Path, configuration: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Workbench]:
    file = directory / "caesura.toml"
    file.write_text(configuration, "utf-8")
    clock, registry = Clock(), CollectorRegistry()
    async with open_toolbox(load_configuration(file, environment or {})) as toolbox:
        executor = Executor(toolbox, timing=clock.timing(), registry=registry)
        yield Workbench(executor, Journal(), clock, registry, toolbox)


class _Server(uvicorn.Server):
    """A server that leaves signals to the tests' own process."""

    def capture_signals(self) -> AbstractContextManager[None]:
        return nullcontext()


@asynccontextmanager
async def served(app: ASGIApp, port: int = 0) -> AsyncIterator[str]:
    """Serve an app in this event loop; its address. Whoever connects early is kept waiting."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    settings = uvicorn.Config(
        app, log_level="error", timeout_graceful_shutdown=1, lifespan="auto", ws="none"
    )
    server = _Server(settings)
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        await task
        # Left out by a server that is forced to exit; its task would end whenever garbage is
        # collected, within whatever runs then.
        await server.lifespan.shutdown()
        listener.close()
