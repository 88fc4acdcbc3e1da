"""Streamed chats are remembered whichever way vLLM makes their events."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponseStreamChoice,
    ChatCompletionStreamResponse,
)
from vllm.entrypoints.serve.engine.protocol import UsageInfo

from caesura.server.clients.turns import serving
from caesura.server.clients.vllm_serving import _observe_chat
from server.clients.kept_transcripts import memory, turn, user

pytestmark = pytest.mark.asyncio


def chunk(*choices: dict[str, object], **fields: object) -> ChatCompletionStreamResponse:
    made = [ChatCompletionResponseStreamChoice(index=0, **choice) for choice in choices]
    return ChatCompletionStreamResponse(model="demo", choices=made, **fields)


CHUNKS = (
    chunk({"delta": {"role": "assistant", "content": ""}}),
    chunk({"delta": {"content": "It is "}}),
    chunk({"delta": {"content": "mild."}}),
    chunk({"delta": {}, "finish_reason": "stop"}),
    chunk(usage=UsageInfo(prompt_tokens=3, total_tokens=6)),
)


class OfEvents:
    """A route until vLLM 0.32: its chats come as events."""

    async def create_chat_completion(self, request: Any, raw_request: Any) -> AsyncIterator[str]:
        return self.events()

    async def events(self) -> AsyncIterator[str]:
        for made in CHUNKS:
            yield f"data: {made.model_dump_json(exclude_unset=True)}\n\n"


class OfChunks:
    """One from 0.33 on: events of any format are made of chunks."""

    async def create_chat_completion(self, request: Any, raw_request: Any) -> AsyncIterator[str]:
        return self.events()

    async def chat_completion_stream_generator_raw(
        self, request: Any
    ) -> AsyncIterator[ChatCompletionStreamResponse]:
        for made in CHUNKS:
            yield made.model_copy(deep=True)

    async def events(self) -> AsyncIterator[str]:
        async for made in self.chat_completion_stream_generator_raw(None):
            yield f"event: message\ndata: {made.model_dump_json(exclude_unset=True)}\n\n"


@pytest.mark.parametrize("route", [OfEvents, OfChunks])
async def test_an_answer_is_remembered_before_its_client_knows_that_it_has_ended(
    route: type,
) -> None:
    transcripts, served = memory(), route()
    _observe_chat(served, transcripts)
    events: list[str] = []
    with serving(turn([user("The weather?")])):
        async for event in await served.create_chat_completion(None, None):
            ended = '"finish_reason":"stop"' in event
            assert (transcripts.used_bytes > 0) == (ended or len(events) > 3)
            events.append(event)
    assert len(events) == len(CHUNKS)
    assert '"caesura":{"continuation":"none"}' in events[-1]
    assert not any("caesura" in event for event in events[:-1])


@pytest.mark.parametrize("route", [OfEvents, OfChunks])
async def test_streams_of_other_requests_pass_as_they_are(route: type) -> None:
    transcripts, served = memory(), route()
    before = [event async for event in served.events()]
    _observe_chat(served, transcripts)
    stream = await served.create_chat_completion(None, None)
    assert [event async for event in stream] == before
    assert transcripts.used_bytes == 0
