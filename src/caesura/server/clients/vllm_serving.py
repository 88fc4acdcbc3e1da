"""The part for clients that run their own tools: seams on vLLM's serving objects."""

from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.datastructures import State
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionResponse
from vllm.entrypoints.openai.responses.protocol import ResponsesResponse
from vllm.entrypoints.openai.responses.utils import construct_chat_messages_with_tool_call
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.version import __version__ as vllm_version

from caesura.engine.config import CaesuraConfig
from caesura.engine.seams import Chunks, observe_chunks
from caesura.engine.serving.adapters import Adapters
from caesura.engine.versions import require_tested_vllm
from caesura.server.clients.middleware import TurnMiddleware
from caesura.server.clients.streams import ChatStream
from caesura.server.clients.transcripts import Transcripts
from caesura.server.clients.turns import ClientTurn, current_turn, remember
from caesura.server.clients.vllm_engine import (
    FreshAdapters,
    ObservedEngine,
    PlacedEngineClient,
    SeparatedEngine,
)
from caesura.server.clients.vllm_rendering import continuing_renderer

Engine = TypeVar("Engine")


class ClientTurns:
    """Remembers what clients were answered, and continues from it when they come back."""

    def attach(self, app: FastAPI) -> None:
        """Tell the requests of these routes apart from all others."""
        app.add_middleware(TurnMiddleware)

    @asynccontextmanager
    async def running(
        self, engine_client: Any, state: State, args: Namespace
    ) -> AsyncIterator[None]:
        """Observe vLLM's serving objects; nothing outlives a request but memory.

        Raises:
            UnsupportedVersion: these objects may be others in this vLLM.
        """
        require_tested_vllm(vllm_version)
        # Before it is wrapped.
        core = getattr(engine_client, "engine_core", None)
        engines = len(getattr(core, "core_engines", ())) or 1
        config = CaesuraConfig.from_vllm(engine_client.vllm_config)
        transcripts = Transcripts(config.transcript_memory, config.forget_after_seconds)
        renderer = continuing_renderer(state.online_renderer, transcripts)
        if getattr(args, "enable_lora", False):
            adapters = state.caesura_adapters = Adapters(state.openai_serving_models.lora_requests)
            fresh = FreshAdapters(engine_client, adapters)
            engine_client = put_before_all(fresh, engine_client, state)
        if state.caesura_access.owners > 1 and not state.caesura_settings.sessions.share_prefixes:
            engine_client = put_before_all(SeparatedEngine(engine_client), engine_client, state)
        placed = PlacedEngineClient(engine_client, state.caesura_places)
        engine_client = put_before_all(placed, engine_client, state)
        engine = ObservedEngine(engine_client, engines)
        chats = (state.openai_serving_chat, state.anthropic_serving_messages)
        for serving in (*chats, state.openai_serving_responses):
            serving.engine_client = engine
            serving.online_renderer = renderer
        for serving in chats:
            _observe_chat(serving, transcripts)
        _observe_responses(state.openai_serving_responses, transcripts)
        yield


def put_before_all(client: Engine, engine_client: Any, state: State) -> Engine:
    """Put an engine client before another one, for all that vLLM serves with that."""
    for name, serving in vars(state)["_state"].items():
        if serving is engine_client:
            setattr(state, name, client)
        elif getattr(serving, "engine_client", None) is engine_client:
            serving.engine_client = client
    return client


def _observe_chat(serving: Any, transcripts: Transcripts) -> None:
    """Chat completions, and messages, which vLLM answers by them."""

    def stream_of(turn: ClientTurn) -> ChatStream:
        return ChatStream(partial(remember, transcripts, turn), turn.report)

    async def noted(chunks: Chunks) -> Chunks:
        turn = current_turn()
        stream = None if turn is None else stream_of(turn)
        async with aclosing(chunks):
            async for chunk in chunks:
                report = stream and stream.note(chunk.model_dump(exclude_unset=True))
                if report is not None:
                    chunk.usage.caesura = report
                yield chunk

    are_noted = observe_chunks(serving, noted)
    create = serving.create_chat_completion

    async def create_chat_completion(request: Any, raw_request: Any = None) -> Any:
        answer = await create(request, raw_request)
        turn = current_turn()
        if turn is None or isinstance(answer, ErrorResponse):
            return answer
        if isinstance(answer, ChatCompletionResponse):
            remember(transcripts, turn, answer.choices[0].message.model_dump())
            answer.usage.caesura = turn.report()
            return answer
        return answer if are_noted else _passed(answer, stream_of(turn))

    serving.create_chat_completion = create_chat_completion


async def _passed(events: Any, stream: ChatStream) -> AsyncIterator[str]:
    async with aclosing(events):
        async for event in events:
            yield stream.passed(event)


def _observe_responses(serving: Any, transcripts: Transcripts) -> None:
    """Responses: streamed, in the background or neither, all are completed in one place."""
    complete = serving.responses_full_generator

    async def responses_full_generator(*args: Any, **options: Any) -> Any:
        response = await complete(*args, **options)
        turn = current_turn()
        if turn is not None and isinstance(response, ResponsesResponse):
            messages = construct_chat_messages_with_tool_call(response.output)
            if len(messages) == 1:
                remember(transcripts, turn, messages[0], response.id)
            if response.usage is not None:
                response.usage.caesura = turn.report()
        return response

    serving.responses_full_generator = responses_full_generator
