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
from caesura.server.answers.run_request import RunRequest, Tokens, parsed, run_spec
from caesura.server.sessions.event_stream import encoded_event
from caesura.server.sessions.schemas import Body, Text
from caesura.server.sessions.service import Service
from caesura.session.records import Event, SessionRecord


class ResponseStreamOptions(Body):
    """How a stream is sent."""

    include_obfuscation: bool | None = None


class ResponseRequest(RunRequest):
    """What Responses accepts with `caesura.tools`."""

    input: Input
    instructions: Text | None = None
    max_output_tokens: Tokens = None
    stream_options: ResponseStreamOptions = ResponseStreamOptions()


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
    model = service.served_model(asked.model)
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


def _encoded(event: Json) -> bytes:
    return encoded_event(event, str(event["type"]))


async def _events(run: Run, response: ResponseRun) -> AsyncGenerator[bytes, None]:
    for event in response.opening():
        yield _encoded(event)
    ended = False
    async for step in run.steps():
        for event in response.take(step):
            yield _encoded(event)
        if isinstance(step, RunEnded):
            ended = True
            yield _encoded(response.ended(step, run.usage(response_usage)))
    if not ended:
        yield _encoded(response.stopped(stopped().detail))


async def _response(run: Run, response: ResponseRun) -> Json:
    async for step in run.steps():
        response.take(step)
        if isinstance(step, RunEnded):
            response.ended(step, run.usage(response_usage))
            return response.response
    raise stopped()


class StoredResponse:
    """The response of a session that may be over; calls and their results are shown.

    Args:
        service: has the session.
        record: the session.
    """

    def __init__(self, service: Service, record: SessionRecord) -> None:
        self._service = service
        self._record = record
        self._reader = RunReader()
        said: Json = {"metadata": record.spec.metadata, "background": not record.spec.attached}
        self._response = ResponseRun(
            record.id, service.models[0], record.created_seconds, said, show_calls=True
        )

    async def so_far(self) -> Json:
        """What has been generated so far."""
        for event in await self._service.store.events(self._record.id):
            await self._taken(event)
        return self._response.response

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Its events from the first on, and then as they happen. An output that is complete has
        one piece."""
        for said in self._response.opening():
            yield _encoded(said)
        log = await self._service.event_log(self._record)
        ended = False
        async for event in log.follow():
            for said in await self._taken(event):
                ended = ended or "response" in said
                yield _encoded(said)
        if not ended:
            yield _encoded(self._response.stopped(stopped().detail))

    async def _taken(self, event: Event) -> list[Json]:
        events: list[Json] = []
        for step in self._reader.read(event):
            events += self._response.take(step)
            if isinstance(step, RunEnded):
                output_tokens = self._reader.output_tokens
                tokens = len(await self._service.store.transcript(self._record.id))
                usage = response_usage(tokens - output_tokens, output_tokens)
                events.append(self._response.ended(step, usage))
        return events
