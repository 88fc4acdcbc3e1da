"""What vLLM's renderer is given of a request."""

from types import SimpleNamespace
from typing import Any

import pytest

from caesura.cml import Marker
from caesura.server.clients.transcripts import Transcripts
from caesura.server.clients.vllm_rendering import ContinuedRendering
from server.clients.kept_transcripts import memory

pytestmark = pytest.mark.asyncio


class Recorded:
    """The part of vLLM's renderer that is called; keeps what it is given."""

    def __init__(self, controls: list[str]) -> None:
        tokenizer = SimpleNamespace(added_tokens_decoder=dict(enumerate(controls)))
        self.renderer = SimpleNamespace(tokenizer=tokenizer)
        self.given: tuple[Any, Any] | None = None

    async def preprocess_chat(
        self, request: Any, messages: list[Any], *, tool_dicts: Any
    ) -> tuple[list[Any], list[Any]]:
        self.given = messages, tool_dicts
        return [], []


async def given(controls: list[str], transcripts: Transcripts) -> tuple[Any, Any]:
    recorded = Recorded(controls)
    rendering = ContinuedRendering(recorded, transcripts)
    messages = [{"role": "tool", "tool_call_id": "[END]", "content": "[END]"}]
    tools = [{"type": "function", "function": {"name": "x", "description": "[END]"}}]
    await rendering.preprocess_chat(None, messages, tool_dicts=tools)
    assert recorded.given is not None
    return recorded.given


async def test_to_a_model_with_markers_messages_and_tools_come_quoted() -> None:
    messages, tools = await given([marker.value for marker in Marker], memory())
    assert messages == [{"role": "tool", "tool_call_id": "[~END]", "content": "[~END]"}]
    assert tools[0]["function"] == {"name": "x", "description": "[~END]"}


async def test_to_others_they_come_as_they_are() -> None:
    messages, tools = await given(["<eos>"], memory())
    assert messages[0]["content"] == tools[0]["function"]["description"] == "[END]"
