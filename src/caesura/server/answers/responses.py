"""Responses with tools that the server runs."""

from collections.abc import AsyncGenerator

from fastapi import Request
from pydantic import JsonValue, TypeAdapter
from starlette.responses import JSONResponse, Response

from caesura.server.access import caller_of
from caesura.server.answers.chat_run import Json
from caesura.server.answers.response_input import Input, input_messages
from caesura.server.answers.response_run import ResponseRun, response_usage
from caesura.server.answers.run import Run, stopped
from caesura.server.answers.run_reader import RunEnded, RunReader
from caesura.server.answers.run_request import RunRequest, Tokens, parsed, run_spec, served_model
from caesura.server.sessions.event_stream import encoded_event
from caesura.server.sessions.schemas import Text
from caesura.server.sessions.service import Service
from caesura.session.records import SessionRecord


class ResponseRequest(RunRequest):
    """What Responses accepts with `caesura.tools`."""

    input: Input
    instructions: Text | None = None
    max_output_tokens: Tokens = None


_FORM = TypeAdapter(ResponseRequest)


async def create_response(
    request: Request, service: Service, owner: str, body: dict[str, JsonValue]
) -> Response:
    """Answer a request by a session.

    Raises:
        ApiError: it asks for what a session cannot do.
        SessionError: there is no room for the session.
    """
    asked: ResponseRequest = parsed(_FORM, body)
    model = served_model(service, asked.model)
    messages = input_messages(asked.instructions, asked.input)
    spec = run_spec(asked, messages, asked.max_output_tokens)
    spec = caller_of(request).fitted(spec, asked.caesura.tools, service)
    run = await Run.begin(request, service, owner, spec, kept=bool(asked.background))
    said: Json = {
        "instructions": asked.instructions,
        "metadata": asked.metadata or {},
        "max_output_tokens": asked.max_output_tokens,
        "temperature": asked.temperature,
        "background": bool(asked.background),
    }
    response = ResponseRun(
        run.agent.id,
        model,
        run.agent.active_seconds,
        said,
        show_calls=asked.caesura.show_calls,
    )
    if asked.stream:
        return run.stream(_events(run, response))
    if asked.background:
        return JSONResponse(response.response)
    return await run.answer(request, _response(run, response))


async def _events(run: Run, response: ResponseRun) -> AsyncGenerator[bytes, None]:
    def encoded(event: Json) -> bytes:
        return encoded_event(event, str(event["type"]))

    for event in response.opening():
        yield encoded(event)
    ended = False
    async for step in run.steps():
        for event in response.take(step):
            yield encoded(event)
        if isinstance(step, RunEnded):
            ended = True
            yield encoded(response.ended(step, run.usage(response_usage)))
    if not ended:
        yield encoded(response.stopped(stopped().detail))


async def _response(run: Run, response: ResponseRun) -> Json:
    async for step in run.steps():
        response.take(step)
        if isinstance(step, RunEnded):
            response.ended(step, run.usage(response_usage))
            return response.response
    raise stopped()


async def stored_response(service: Service, record: SessionRecord) -> Json:
    """The response of a session so far; calls and their results are shown."""
    said: Json = {"metadata": record.spec.metadata, "background": True}
    response = ResponseRun(
        record.id, service.models[0], record.created_seconds, said, show_calls=True
    )
    reader = RunReader()
    for event in await service.store.events(record.id):
        for step in reader.read(event):
            response.take(step)
            if isinstance(step, RunEnded):
                tokens = len(await service.store.transcript(record.id))
                usage = response_usage(tokens - reader.output_tokens, reader.output_tokens)
                response.ended(step, usage)
    return response.response
