"""Chat Completions with tools that the server runs."""

from collections.abc import AsyncGenerator

from fastapi import Request
from pydantic import Field, JsonValue, TypeAdapter, field_validator
from starlette.responses import Response

from caesura.server.access import caller_of
from caesura.server.answers.chat_run import ChatRun, Json, chat_usage, ending_error, error_chunk
from caesura.server.answers.run import Run, stopped
from caesura.server.answers.run_reader import RunEnded
from caesura.server.answers.run_request import (
    RunRequest,
    Seed,
    Tokens,
    parsed,
    run_spec,
)
from caesura.server.sessions.event_stream import encoded_event
from caesura.server.sessions.schemas import MOST_MESSAGES, Body, checked_messages
from caesura.server.sessions.service import Service
from caesura.session.records import Message

_DONE = b"data: [DONE]\n\n"


class StreamOptions(Body):
    """How a stream is sent."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class ChatRequest(RunRequest):
    """What Chat Completions accepts with `caesura.tools`."""

    messages: list[Message] = Field(fail_fast=True, min_length=1, max_length=MOST_MESSAGES)
    max_completion_tokens: Tokens = None
    max_tokens: Tokens = None
    seed: Seed = None
    stream_options: StreamOptions = StreamOptions()

    _check_messages = field_validator("messages")(checked_messages)


_FORM = TypeAdapter(ChatRequest)


async def create_chat_completion(
    request: Request, service: Service, owner: str, body: dict[str, JsonValue]
) -> Response:
    """Answer a request by a session.

    Raises:
        ApiError: it asks for what a session cannot do.
        SessionError: there is no room for the session.
    """
    asked: ChatRequest = parsed(_FORM, body)
    model = service.served_model(asked.model)
    max_tokens = asked.max_completion_tokens or asked.max_tokens
    spec = run_spec(asked, asked.messages, max_tokens, asked.seed)
    spec = caller_of(request).fitted(spec, asked.caesura.tools, service)
    kept = bool(asked.background or asked.store)
    run = await Run.begin(request, service, owner, spec, kept=kept)
    chat = ChatRun(
        run.agent.id,
        model,
        run.agent.active_seconds,
        show_calls=asked.caesura.show_calls,
    )
    if asked.stream:
        return run.stream(_chunks(run, chat, with_usage=asked.stream_options.include_usage))
    return await run.answer(request, _completion(run, chat))


async def _chunks(run: Run, chat: ChatRun, *, with_usage: bool) -> AsyncGenerator[bytes, None]:
    yield encoded_event(chat.opening())
    error: Exception | None = stopped()
    async for step in run.steps():
        for chunk in chat.take(step):
            yield encoded_event(chunk)
        if isinstance(step, RunEnded):
            error = ending_error(step)
    if error is not None:
        yield encoded_event(error_chunk(error))
    elif with_usage:
        yield encoded_event(chat.usage_chunk(run.usage(chat_usage)))
    yield _DONE


async def _completion(run: Run, chat: ChatRun) -> Json:
    error: Exception | None = stopped()
    async for step in run.steps():
        chat.take(step)
        if isinstance(step, RunEnded):
            error = ending_error(step)
    if error is not None:
        raise error
    return chat.completion(run.usage(chat_usage))
