"""The routes of sessions behind a real HTTP server, on the fake engine and with real tools."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import openai
import uvicorn
from fastapi import FastAPI, Request

from caesura.server.access import Access
from caesura.server.answers.server_tools import ServerTools
from caesura.server.gate import close_gate
from caesura.server.keys import Key
from caesura.server.owners import Owners
from caesura.server.sessions import approvals, sessions
from caesura.server.sessions.forwarding import Forwarding
from caesura.server.sessions.returning import Returning
from caesura.server.sessions.service import Service, Unavailable
from caesura.server.sessions.streams import OpenStreams
from caesura.server.settings import ServerSection
from caesura.session.agents import Agents
from caesura.session.call_format import CallFormats
from caesura.session.limits import Limits
from caesura.session.workplace import Workplace
from caesura.tools.context import CallContext
from caesura.tools.endpoint import Endpoint
from caesura.tools.human_endpoint import HumanEndpoint
from caesura.tools.settings import HumanTool
from session.scripted import END, ByteDialogue, model
from session.workplace import eventually, workplace
from support.engines.fakes import FakeEngine

MODEL = "demo"
KEYS = ("anna", "bert")
JSON = {"Content-Type": "application/json"}


class FlatDialogue(ByteDialogue):
    """Takes messages whose content has parts, too."""

    def prompt(self, messages, tools) -> list[int]:
        flat = [{**m, "content": _flat(m.get("content"))} for m in messages]
        return super().prompt(flat, tools)


def _flat(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content)


class QuietServer(uvicorn.Server):
    """Leaves signals to the tests."""

    @contextmanager
    def capture_signals(self):
        yield


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        url: where it is.
        app: its application.
        client: of anybody.
        work: what the sessions work with.
        agents: the sessions.
        service: what the routes work with.
        untouched: bodies of the requests that went past the routes, to where vLLM's are.
        clients: closes what was opened for the server's clients.
    """

    url: str
    app: FastAPI
    client: httpx.AsyncClient
    work: Workplace
    agents: Agents
    service: Service
    untouched: list[bytes]
    clients: AsyncExitStack

    def openai(self, key: str = "none") -> openai.AsyncOpenAI:
        """OpenAI's client with a key."""
        client = openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)
        self.clients.push_async_callback(client.close)
        return client

    async def session(self, plan: str, **fields: Any) -> dict[str, Any]:
        """A new session that follows a plan."""
        answer = await self.client.post("/v1/sessions", json=body(plan, **fields))
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def until(self, session_id: str, **fields: Any) -> dict[str, Any]:
        """The session, once it is so; it is looked at after each of its events."""
        after = 0
        async with asyncio.timeout(20):
            while True:
                session = (await self.client.get(f"/v1/sessions/{session_id}")).json()
                if fields.items() <= session.items():
                    return session
                parameters = {"stream": False, "after": after, "wait_seconds": 20}
                listed = await self.client.get(
                    f"/v1/sessions/{session_id}/events", params=parameters
                )
                after = max([after, *(event["id"] for event in listed.json()["data"])])

    async def asked(self) -> dict[str, Any]:
        """The first question that waits for a human."""
        changed = asyncio.Event()
        self.work.approvals.on_change.append(changed.set)
        async with asyncio.timeout(20):
            while True:
                waiting = await self.client.get("/v1/approvals", params={"state": "waiting"})
                if data := waiting.json()["data"]:
                    return data[0]
                await changed.wait()
                changed.clear()


def body(plan: str, **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": plan}
    return {"messages": [message], "max_tokens": 4000, "temperature": 0, **fields}


@asynccontextmanager
async def served(
    path: Path,
    *tools: Endpoint,
    has_keys: bool = False,
    keys: Sequence[str | Key] = (),
    default_tools: list[str] | None = None,
    owner_limits: Mapping[str, Limits] | None = None,
    engine: FakeEngine | None = None,
    keep_alive_seconds: float = 15.0,
    body_limit: int = 2**20,
    context_tokens: int | None = None,
    formats: CallFormats | None = None,
    grace_seconds: float = 0.0,
    clock: Callable[[], float] = time.time,
    lease_seconds: float | None = None,
    **limits: Any,
) -> AsyncIterator[Served]:
    engine = engine or FakeEngine(END, model)
    async with workplace(
        path,
        *tools,
        engine=engine,
        clock=clock,
        limits=Limits(**limits),
        lease_seconds=lease_seconds,
    ) as parts:
        work = replace(
            parts,
            dialogue=FlatDialogue(),
            formats=formats or CallFormats(),
            owner_limits=owner_limits or {},
        )
        agents = Agents(work)
        await agents.start()
        settings = ServerSection(keep_alive_seconds=keep_alive_seconds, body_limit=body_limit)
        models, keys = (MODEL, "other"), keys or (KEYS if has_keys else ())
        streams = OpenStreams(work.limits_of)
        service = Service(
            agents,
            work.store,
            work.executor,
            settings,
            models,
            work.store.name,
            streams,
            context_tokens,
            default_tools,
            Returning(grace_seconds),
        )
        untouched: list[bytes] = []
        try:
            app = application(service, untouched, keys=keys)
            async with listening(app) as url:
                async with AsyncExitStack() as clients:
                    client = httpx.AsyncClient(base_url=url, timeout=30)
                    await clients.enter_async_context(client)
                    yield Served(url, app, client, work, agents, service, untouched, clients)
                # Streams of sessions end with the sessions, and the server with its streams.
                await agents.stop()
        finally:
            await agents.stop()


def application(
    service: Service | Unavailable | None, untouched: list[bytes], *, keys: Sequence[str | Key] = ()
) -> FastAPI:
    """The routes of sessions behind the gate, and in place of vLLM's one that notes what it gets.

    Args:
        service: what the routes work with.
        untouched: where the bodies go that vLLM's would get.
        keys: API keys; with none the server asks for none.
    """
    app = FastAPI()
    app.state.caesura = service
    app.state.caesura_owners = Owners(bool(keys), b"a secret")
    app.include_router(sessions.router)
    app.include_router(approvals.router)

    @app.post("/v1/chat/completions")
    @app.post("/v1/responses")
    async def vllm(request: Request) -> dict[str, str]:
        untouched.append(await request.body())
        return {"from": "vllm"}

    @app.get("/v1/models")
    async def vllm_models() -> dict[str, object]:
        return {"object": "list", "data": [{"id": model} for model in service.models]}

    @app.get("/v1/responses/{response_id}")
    async def vllm_response(response_id: str) -> dict[str, str]:
        return {"from": "vllm"}

    app.add_middleware(ServerTools)
    app.add_middleware(Forwarding)
    close_gate(app, Access(known(*keys)))
    return app


def known(*keys: str | Key) -> tuple[Key, ...]:
    """The keys as the gate knows them."""
    return tuple(key if isinstance(key, Key) else Key.full(key) for key in keys)


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """Serve an application; its address. As with vLLM, the application has its server."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(app, log_level="warning", lifespan="off", backlog=2048)
        app.state.server = server = QuietServer(config)
        listener.listen(2048)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await eventually(lambda: server.started)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await task


async def streamed(
    client: httpx.AsyncClient, url: str, **options: Any
) -> list[tuple[str, str, dict[str, Any]]]:
    """All events of a stream: number, type, data."""
    async with asyncio.timeout(20), client.stream("GET", url, **options) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        return events((await answer.aread()).decode())


def events(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """The events of a stream, read as the specification says."""
    read = []
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line[:1] not in ("", ":")
        )
        if fields:
            data = fields.get("data", "")
            read.append(
                (
                    fields.get("id", ""),
                    fields.get("event", ""),
                    json.loads(data) if data.startswith("{") else data,
                )
            )
    return read


def human(name: str = "ask", **settings: Any) -> HumanEndpoint:
    return HumanEndpoint(name, HumanTool(type="human", **settings))


async def form(context: CallContext) -> str:
    """Ask for data."""
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer"}},
        "required": ["age"],
    }
    answer = await context.ask_for_input("How old?", schema)
    return json.dumps(answer.content) if answer.accepted else f"refused: {answer.reason}"
