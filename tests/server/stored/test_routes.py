"""Responses that are kept, behind a real HTTP server: by their owners, in the background or not."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI

from caesura.server.access import Access
from caesura.server.bodies import BodyLimits
from caesura.server.errors import ApiError
from caesura.server.gate import close_gate
from caesura.server.owners import Owners
from caesura.server.stored.background import Background
from caesura.server.stored.responses import Asked, StoredResponses
from caesura.server.stored.routes import Responses, router
from caesura.session.errors import QuotaExceeded
from caesura.session.limits import Limits
from caesura.session.store import Store
from server.served import known, listening
from session.workplace import eventually

QUESTION = {"type": "message", "role": "user", "content": "The weather?"}
ANSWER = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "It rains.", "annotations": []}],
}


def response(response_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": response_id,
        "object": "response",
        "status": "completed",
        "background": False,
        "output": [ANSWER],
        **fields,
    }


class Work:
    """A server of responses, and what its routes work with."""

    def __init__(self, store: Store, **limits: Any) -> None:
        self.store = store
        self.stored = StoredResponses(store, lambda _: Limits(**limits), BodyLimits(2**16))
        self.background = Background(self.stored)
        self.app = FastAPI()
        self.app.state.caesura_owners = Owners(True, b"a secret")
        self.app.state.caesura_responses = Responses(self.stored, self.background)
        self.app.include_router(router)
        close_gate(self.app, Access(known("anna", "bert")))
        self.url = ""

    def client(self, key: str = "anna") -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {key}"})

    def openai(self, key: str = "anna") -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    def owner(self, key: str = "anna") -> str:
        headers = httpx.Headers({"authorization": f"Bearer {key}"})
        return self.app.state.caesura_owners.of(headers)  # type: ignore[no-any-return]

    async def add(self, response_id: str, previous: str | None = None, **fields: Any) -> None:
        place = None
        if previous is not None:
            place, _ = await self.stored.continued(self.owner(), previous)
        asked = Asked(self.owner(), [QUESTION], place)
        await self.stored.add(asked, response(response_id, **fields))

    async def begin(
        self, response_id: str, go: asyncio.Event, *, keeps_events: bool = True
    ) -> dict[str, Any]:
        """A response in the background, of which a part waits for `go`."""

        async def events() -> AsyncGenerator[dict[str, Any], None]:
            shown = {"background": True}
            opened = response(response_id, status="in_progress", **shown) | {"output": []}
            yield {"type": "response.created", "sequence_number": 0, "response": opened}
            yield {"type": "response.output_item.done", "sequence_number": 1, "item": ANSWER}
            await go.wait()
            done = response(response_id, **shown)
            yield {"type": "response.completed", "sequence_number": 2, "response": done}

        asked = Asked(self.owner(), [QUESTION])
        return await self.background.begin(asked, events(), keeps_events=keeps_events)


@asynccontextmanager
async def working(path: Path, **limits: Any) -> AsyncIterator[Work]:
    store = Store(path / "db")
    try:
        work = Work(store, **limits)
        await work.stored.fail_lost()
        async with listening(work.app) as work.url:
            yield work
        await work.background.stop()
    finally:
        store.close()


async def test_a_response_is_found_until_it_is_deleted(tmp_path: Path) -> None:
    async with working(tmp_path) as work:
        await work.add("resp_1", metadata={"a": "b"})
        async with work.openai() as client:
            found = await client.responses.retrieve("resp_1")
            assert found.output_text == "It rains."
            assert found.metadata == {"a": "b"}
            await client.responses.delete("resp_1")
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve("resp_1")
            with pytest.raises(openai.NotFoundError):
                await client.responses.delete("resp_1")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "?stream=true"),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("GET", "/input_items"),
    ],
)
async def test_another_owners_response_is_as_one_that_never_was(
    tmp_path: Path, method: str, path: str
) -> None:
    async with working(tmp_path) as work, work.client("bert") as client:
        await work.add("resp_1")
        await work.begin("resp_2", asyncio.Event())
        answers = [
            await client.request(method, f"/v1/responses/{name}{path}")
            for name in ("resp_1", "resp_2", "resp_3")
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert (
            len({answer.text.replace(f"resp_{n}", "") for n, answer in enumerate(answers, 1)}) == 1
        )
    async with working(tmp_path) as work:
        assert await work.stored.response(work.owner(), "resp_1")


async def test_what_continues_a_response_has_all_its_items(tmp_path: Path) -> None:
    async with working(tmp_path) as work, work.openai() as client:
        await work.add("resp_1")
        await work.add("resp_2", "resp_1")
        _, items = await work.stored.continued(work.owner(), "resp_2")
        assert items == [QUESTION, ANSWER, QUESTION, ANSWER]
        shown = [item async for item in await client.responses.input_items.list("resp_2")]
        assert [item.role for item in shown] == ["user", "assistant", "user"]
        page = await client.responses.input_items.list("resp_2", limit=2, order="asc")
        assert page.has_more
        assert [item.id for item in page.data] == ["item_0", "msg_1"]
        rest = await client.responses.input_items.list("resp_2", after="msg_1", order="asc")
        assert [item.id for item in rest.data] == ["item_2"]
        with pytest.raises(openai.NotFoundError):
            await client.responses.input_items.list("resp_2", after="another")


async def test_a_message_without_content_is_not_continued(tmp_path: Path) -> None:
    async with working(tmp_path) as work:
        await work.add("resp_1", output=[{**ANSWER, "content": []}])
        _, items = await work.stored.continued(work.owner(), "resp_1")
        assert items == [QUESTION]


async def test_a_history_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async with working(tmp_path) as work:
        text = {"type": "output_text", "text": "x" * 2**15, "annotations": []}
        await work.add("resp_1", output=[{**ANSWER, "content": [text]}])
        await work.add("resp_2", "resp_1", output=[{**ANSWER, "content": [text]}])
        with pytest.raises(ApiError) as refused:
            await work.stored.continued(work.owner(), "resp_2")
        assert refused.value.status_code == 413


async def test_a_response_in_the_background_is_followed_from_anywhere(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with working(tmp_path) as work, work.openai() as client:
        queued = await work.begin("resp_1", go)
        assert queued["status"] == "queued"
        assert (await client.responses.retrieve("resp_1")).output_text == "It rains."
        with pytest.raises(ApiError):
            await work.stored.continued(work.owner(), "resp_1")
        stream = await client.responses.retrieve("resp_1", stream=True, starting_after=0)
        numbers = []
        async for event in stream:
            numbers.append(event.sequence_number)
            go.set()
        assert numbers == [1, 2]
        stream = await client.responses.retrieve("resp_1", stream=True, starting_after=1)
        assert [event.type async for event in stream] == ["response.completed"]
        assert (await client.responses.retrieve("resp_1")).status == "completed"
        assert (await client.responses.cancel("resp_1")).status == "completed"
    async with working(tmp_path) as work, work.openai() as client:
        stream = await client.responses.retrieve("resp_1", stream=True)
        assert [event.sequence_number async for event in stream] == [0, 1, 2]


@pytest.mark.parametrize("end", ["cancel", "delete", "restart"])
async def test_a_response_in_the_background_ends_early(tmp_path: Path, end: str) -> None:
    async with working(tmp_path) as work, work.openai() as client:
        await work.begin("resp_1", asyncio.Event())
        if end == "cancel":
            assert (await client.responses.cancel("resp_1")).status == "cancelled"
            stream = await client.responses.retrieve("resp_1", stream=True)
            assert [event.type async for event in stream][-1] == "response.failed"
        elif end == "delete":
            await client.responses.delete("resp_1")
    async with working(tmp_path) as work, work.openai() as client:
        if end == "delete":
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve("resp_1")
        else:
            found = await client.responses.retrieve("resp_1")
            assert found.status == ("cancelled" if end == "cancel" else "failed")
            assert found.output_text == "It rains.", "what there was is kept"


async def test_only_what_was_streamed_in_the_background_is_streamed_again(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with working(tmp_path) as work, work.openai() as client:
        await work.add("resp_1")
        await work.begin("resp_2", go, keeps_events=False)
        for response_id in ("resp_1", "resp_2"):
            with pytest.raises(openai.BadRequestError, match="its events are not kept"):
                await client.responses.retrieve(response_id, stream=True)
        with pytest.raises(openai.BadRequestError, match="background"):
            await client.responses.cancel("resp_1")


async def test_an_owner_has_so_many_responses_in_the_background(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with working(tmp_path, streams_per_owner=2) as work:
        await work.begin("resp_1", go)
        await work.begin("resp_2", go)
        with pytest.raises(QuotaExceeded):
            await work.begin("resp_3", go)
        go.set()
        await eventually(lambda: not work.background._running)
        await work.begin("resp_3", go)


async def test_what_there_is_no_room_for_is_kept_without_its_output(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with working(tmp_path, owner_bytes=900) as work:
        await work.begin("resp_1", go)
        go.set()
        await eventually(lambda: not work.background._running)
        found = await work.stored.response(work.owner(), "resp_1")
        assert (found["status"], found["output"]) == ("completed", [])
