"""What vLLM's renderer is given of a request."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from caesura.cml import Marker
from caesura.engine.protocol import OWNER_ARGUMENT, REPORT, TOOLS_ARGUMENT
from caesura.server.clients.transcripts import Transcripts
from caesura.server.clients.turns import ClientTurn, serving
from caesura.server.clients.vllm_engine import ObservedEngine
from caesura.server.clients.vllm_rendering import ContinuedRendering
from server.clients.kept_transcripts import calling, keep, memory, result, user

pytestmark = pytest.mark.asyncio


class Recorded:
    """The part of vLLM's renderer that is called; keeps what it is given."""

    reasoning_effort_map: Mapping[str, str] = {}

    def __init__(self, controls: list[str]) -> None:
        tokenizer = SimpleNamespace(added_tokens_decoder=dict(enumerate(controls)))
        self.renderer = SimpleNamespace(tokenizer=tokenizer)
        self.given: tuple[Any, Any] | None = None

    async def preprocess_chat(
        self, request: Any, messages: list[Any], *, tool_dicts: Any, **options: Any
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


class Generating:
    """The part of vLLM's engine client that is called; keeps what it is given."""

    async def generate(self, prompt: Any, params: SamplingParams, request_id: str) -> Any:
        self.given = params.extra_args
        return
        yield  # an asynchronous generator


@pytest.mark.parametrize("tools", [None, [], [{"type": "function"}]])
async def test_the_engine_learns_whether_the_model_is_shown_tools(tools: list[Any] | None) -> None:
    recorded, engine, turn = Recorded([]), Generating(), ClientTurn("me")
    with serving(turn):
        await ContinuedRendering(recorded, memory()).preprocess_chat(
            ChatCompletionRequest(messages=[], model="demo"),
            [],
            default_template=None,
            default_template_content_format="auto",
            default_template_kwargs=None,
            tool_dicts=tools,
        )
        observed = ObservedEngine(engine)
        assert [o async for o in observed.generate([1], SamplingParams(), "r")] == []
    assert engine.given == {OWNER_ARGUMENT: "me", REPORT: True, TOOLS_ARGUMENT: bool(tools)}


async def test_the_report_points_at_the_message_that_has_changed() -> None:
    transcripts, turn = memory(), ClientTurn("alpha")
    clock = [{"role": "system", "content": f"It is 07:41:{s}."} for s in (58, 59)]
    keep(transcripts, [clock[0], user("The weather?")], calling("call-1"))
    rendering = ContinuedRendering(Recorded([]), transcripts)
    told = []
    for first in (clock[1], clock[0]):  # the same turn may be rendered again
        messages = [first, user("The weather?"), calling("call-1"), result("call-1")]
        with serving(turn):
            await rendering.preprocess_chat(
                ChatCompletionRequest(messages=[], model="demo"),
                messages,
                default_template=None,
                default_template_content_format="auto",
                default_template_kwargs=None,
                tool_dicts=None,
            )
        told.append(turn.report())
    assert told == [{"continuation": "none", "first_change": 0}, {"continuation": "none"}]
