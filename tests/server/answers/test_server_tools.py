"""Which bodies the server takes for its own, and how much of them it reads."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from caesura.server.bodies import ON_LOOP_BYTES
from caesura.server.body_scan import MOST_VALUES
from caesura.server.settings import ServerSection
from server.served import JSON, application, served


async def test_no_more_is_received_than_shows_that_a_body_is_too_large() -> None:
    received = []

    async def parts() -> AsyncIterator[bytes]:
        for part in (b'{"x": "', b"x" * (limit // 2), b"x" * (limit // 2), b"x", b'"}'):
            received.append(part)
            yield part

    limit = ServerSection().request_limit
    untouched: list[bytes] = []
    transport = httpx.ASGITransport(application(None, untouched))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.post("/v1/responses", content=parts(), headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"
    assert len(received) == 3
    assert not untouched


async def test_a_body_with_tools_of_the_server_has_a_limit_of_its_own(tmp_path: Path) -> None:
    async with served(tmp_path / "db", body_limit=1024) as server:
        for field, expected in ((b"caesura", 413), (b"others", 200)):
            content = b'{"%s": {"tools": "all"}, "x": "%s"}' % (field, b"x" * 1024)
            answer = await server.client.post("/v1/chat/completions", content=content, headers=JSON)
            assert answer.status_code == expected
        assert server.untouched == [content]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/completions"])
@pytest.mark.parametrize(
    "content",
    [
        b'{"messages": [' + b",".join([b'{"role": "u"}'] * (MOST_VALUES + 1)) + b"]}",
        b'{"x": [' + b",".join([b"[]"] * (MOST_VALUES + 1)) + b"]}",
        b"[" * ON_LOOP_BYTES + b"1",
    ],
    ids=["messages", "lists", "nesting"],
)
async def test_a_body_of_vllm_that_takes_long_to_read_is_refused(path: str, content: bytes) -> None:
    untouched: list[bytes] = []
    transport = httpx.ASGITransport(application(None, untouched))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.post(path, content=content, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "body_too_complex"
    assert not untouched


async def test_long_prompts_and_large_files_are_left_to_vllm() -> None:
    prompts = [
        b'{"prompt": [' + b",".join([b"17"] * 10 * MOST_VALUES) + b"]}",
        b'{"image": "' + b"A" * ServerSection().body_limit + b'"}',
    ]
    untouched: list[bytes] = []
    transport = httpx.ASGITransport(application(None, untouched))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for content in prompts:
            await client.post("/v1/chat/completions", content=content, headers=JSON)
    assert untouched == prompts
