"""Answers name the server that gives them, if it has a name."""

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from starlette.datastructures import State
from starlette.responses import StreamingResponse

from caesura.engine.config import CaesuraConfig
from caesura.errors import ConfigurationError
from caesura.server.replica import HEADER, ReplicaHeader


async def named(state: dict[str, object], path: str) -> str | None:
    app = FastAPI()
    app.state = State(state)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter(["data: 1\n\n"]), headers={HEADER: "of another"})

    @app.get("/refused")
    async def refused() -> None:
        raise HTTPException(429)

    app.add_middleware(ReplicaHeader)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return (await client.get(path)).headers.get(HEADER)


@pytest.mark.parametrize("path", ["/refused", "/nowhere", "/stream"])
async def test_every_answer_has_the_name(path: str) -> None:
    assert await named({"caesura_replica": "pod-3"}, path) == "pod-3"


async def test_a_server_without_a_name_adds_nothing() -> None:
    assert await named({"caesura_replica": None}, "/refused") is None
    assert await named({}, "/refused") is None


@pytest.mark.parametrize("name", ["", "two words", "a\r\nSet-Cookie: b", "x" * 129])
def test_a_name_fits_into_a_header(name: str) -> None:
    with pytest.raises(ConfigurationError):
        CaesuraConfig.parse({"replica_name": name})
