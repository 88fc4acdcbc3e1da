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
from vllm.parser.abstract_parser import Parser
from vllm.version import __version__ as vllm_version

from caesura.engine.config import CaesuraConfig
from caesura.engine.model.text_around_calls import with_text_around_calls
from caesura.engine.scheduler import InterceptScheduler
from caesura.engine.seams import Chunks, observe_chunks
from caesura.engine.serving.adapters import Adapters
from caesura.engine.versions import require_tested_vllm
from caesura.server.clients.middleware import TurnMiddleware
from caesura.server.clients.streams import ChatStream
from caesura.server.clients.transcripts import Transcripts
from caesura.server.clients.turns import ClientTurn, current_turn, remember
from caesura.server.clients.vllm_async_calls import observe_async_calls
from caesura.server.clients.vllm_engine import (
    FreshAdapters,
    HomedEngine,
    ObservedEngine,
    PlacedEngineClient,
    SeparatedEngine,
)
from caesura.server.clients.vllm_lanes import LanesEngine, call_rules
from caesura.server.clients.vllm_rendering import (
    clamping_renderer,
    continuing_renderer,
    control_texts,
    knows_cml,
)

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
        config = CaesuraConfig.from_vllm(engine_client.vllm_config)
        transcripts = Transcripts(config.transcript_memory, config.forget_after_seconds)
        renderer = continuing_renderer(state.online_renderer, transcripts)
        scheduler = engine_client.vllm_config.scheduler_config.get_scheduler_cls()
        if issubclass(scheduler, InterceptScheduler):
            rules = call_rules(control_texts(state.online_renderer.renderer).items())
            lanes = LanesEngine(engine_client, rules)
            engine_client = put_before_all(lanes, engine_client, state)
        homed = HomedEngine(engine_client, state.caesura_homes)
        engine_client = put_before_all(homed, engine_client, state)
        if getattr(args, "enable_lora", False):
            adapters = state.caesura_adapters = Adapters(state.openai_serving_models.lora_requests)
            fresh = FreshAdapters(engine_client, adapters)
            engine_client = put_before_all(fresh, engine_client, state)
        if state.caesura_access.owners > 1 and not state.caesura_settings.sessions.share_prefixes:
            engine_client = put_before_all(SeparatedEngine(engine_client), engine_client, state)
        placed = PlacedEngineClient(engine_client, state.caesura_places)
        engine_client = put_before_all(placed, engine_client, state)
        engine = ObservedEngine(engine_client)
        chats = (state.openai_serving_chat, state.anthropic_serving_messages)
        for serving in (*chats, state.openai_serving_responses):
            serving.engine_client = engine
            serving.online_renderer = renderer
        # Its clients send what the models that they were written for can write at most.
        state.anthropic_serving_messages.online_renderer = clamping_renderer(renderer)
        for serving in chats:
            serving.parser_cls = noting_calls(with_text_around_calls(serving.parser_cls))
            serving.enable_prompt_tokens_details = True
            _observe_chat(serving, transcripts)
        responses = state.openai_serving_responses
        responses.parser = noting_calls(with_text_around_calls(responses.parser))
        _observe_responses(responses, transcripts)
        observe_async_calls(responses, knows_cml=knows_cml(state.online_renderer.renderer))
        yield


def put_before_all(client: Engine, engine_client: Any, state: State) -> Engine:
    """Put an engine client before another one, for all that vLLM serves with that."""
    for name, serving in vars(state)["_state"].items():
        if serving is engine_client:
            setattr(state, name, client)
        elif getattr(serving, "engine_client", None) is engine_client:
            serving.engine_client = client
    return client


def noting_calls(parser: type[Parser] | None) -> type[Parser] | None:
    """The same parser; a turn is told how many calls it finds: vLLM may show fewer of them."""
    if parser is None:
        return None

    class NotingCalls(parser):  # type: ignore[misc, valid-type]
        def parse(self, *args: Any, **options: Any) -> Any:
            found = super().parse(*args, **options)
            _note_calls(len(found[2] or ()))
            return found

        def parse_delta(self, *args: Any, **options: Any) -> Any:
            delta = super().parse_delta(*args, **options)
            _note_calls(sum(bool(call.id) for call in (delta and delta.tool_calls) or ()))
            return delta

    return NotingCalls


def _note_calls(calls: int) -> None:
    if (turn := current_turn()) is not None:
        turn.calls_written += calls


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
            remember(transcripts, turn, *construct_chat_messages_with_tool_call(response.output))
            if response.usage is not None:
                response.usage.caesura = turn.report()
        return response

    serving.responses_full_generator = responses_full_generator
