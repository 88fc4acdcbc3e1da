"""Routes of sessions: made, listed, followed, steered, paused, cancelled."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from caesura.server.access import CallerOf, OwnerOf
from caesura.server.routing import CONFLICT, ERRORS, ApiRoute
from caesura.server.sessions.event_stream import EventStreamResponse, encoded_event
from caesura.server.sessions.retries import IdempotencyKey, SessionId, request_keys
from caesura.server.sessions.schemas import (
    LARGEST_INTEGER,
    CreateSession,
    EventObject,
    NewMessage,
    Page,
    SessionObject,
    Transcript,
)
from caesura.server.sessions.service import Service, ServiceOf
from caesura.server.sessions.views import (
    event_data,
    event_object,
    session_object,
    session_objects,
    transcript,
)
from caesura.session.events import EventLog
from caesura.session.records import Event, SessionRecord

router = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=ApiRoute, responses=ERRORS)

LONGEST_WAIT_SECONDS = 300.0
_EVENTS = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}


@router.post(
    "",
    status_code=201,
    response_model=SessionObject,
    responses={201: {"description": "The session; with `stream` its events.", **_EVENTS}},
)
async def create_session(
    body: CreateSession,
    service: ServiceOf,
    caller: CallerOf,
    idempotency_key: IdempotencyKey = None,
    x_session_id: SessionId = None,
) -> Any:
    """Make a session: the server generates, runs its tools, and waits for humans."""
    owner, spec = caller.owner, caller.fitted(body.spec(), body.tools, service)
    keys = request_keys("sessions", spec, idempotency_key, x_session_id)
    session_id = None if x_session_id is None else f"sess_{x_session_id.hex}"
    if not body.stream:
        agent = await service.create(owner, spec, keys, session_id)
        return await _session(service, owner, agent.id)
    service.streams.open(owner)
    try:
        agent = await service.create(owner, spec, keys, session_id)
        record = await service.agents.get(owner, agent.id)
    except BaseException:
        await service.streams.close(owner)
        raise
    response = _followed(service, record, agent.events, after=0)
    response.status_code = 201
    return response


@router.get("")
async def list_sessions(
    service: ServiceOf,
    owner: OwnerOf,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[
        str | None, Query(description="The id of a session, or a time: only older ones.")
    ] = None,
) -> Page[SessionObject]:
    """One's sessions, the newest first."""
    before_seconds = None if before is None else await _seconds(service, owner, before)
    records = await service.agents.sessions(owner, before_seconds, limit + 1)
    shown = await session_objects(service, records[:limit])
    return Page(data=shown, has_more=len(records) > limit)


async def _seconds(service: Service, owner: str, before: str) -> float:
    try:
        return float(before)
    except ValueError:
        return (await service.agents.get(owner, before)).created_seconds


@router.get("/{session_id}")
async def get_session(session_id: str, service: ServiceOf, owner: OwnerOf) -> SessionObject:
    """What a session does, waits for, and has said last."""
    return await _session(service, owner, session_id)


async def _session(service: Service, owner: str, session_id: str) -> SessionObject:
    return await session_object(service, await service.agents.get(owner, session_id))


@router.get(
    "/{session_id}/events",
    response_model=Page[EventObject],
    responses={200: {"description": "The events; with `stream=false` a list.", **_EVENTS}},
)
async def get_events(
    session_id: str,
    service: ServiceOf,
    owner: OwnerOf,
    after: Annotated[
        int, Query(ge=0, le=LARGEST_INTEGER, description="Only events with a higher number.")
    ] = 0,
    stream: Annotated[
        bool, Query(description="False for a list of the next ones that there are.")
    ] = True,
    wait_seconds: Annotated[
        float,
        Query(ge=0, le=LONGEST_WAIT_SECONDS, description="Of a list: wait until it has one."),
    ] = 0,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=LARGEST_INTEGER, description="The same as `after`.")
    ] = None,
) -> Any:
    """What happens in a session, from the past and then as it happens, until it has ended."""
    record = await service.agents.get(owner, session_id)
    log = await service.event_log(record)
    if last_event_id is not None:  # a browser that reconnects repeats its first address
        after = last_event_id
    service.streams.open(owner)
    if stream:
        return _followed(service, record, log, after)
    try:
        events, has_more = await _waited(log, after, wait_seconds)
    finally:
        await service.streams.close(owner)
    return Page(data=[event_object(record, event) for event in events], has_more=has_more)


def _followed(service: Service, record: SessionRecord, log: EventLog, after: int) -> Response:
    """The stream that was counted as open."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        async for event in log.follow(after):
            yield encoded_event(event_data(record, event), event.type, event.number)

    return EventStreamResponse(
        pieces(),
        service.settings.keep_alive_seconds,
        on_close=partial(service.streams.close, record.owner),
    )


async def _waited(log: EventLog, after: int, wait_seconds: float) -> tuple[list[Event], bool]:
    events, has_more = await log.next_page(after)
    if events or not wait_seconds:
        return events, has_more
    try:
        async with asyncio.timeout(wait_seconds), aclosing(log.follow(after)) as following:
            await anext(following, None)
    except TimeoutError:
        return [], False
    return await log.next_page(after)


@router.post("/{session_id}/messages", status_code=202, responses=CONFLICT)
async def add_message(
    session_id: str,
    body: NewMessage,
    service: ServiceOf,
    owner: OwnerOf,
    idempotency_key: IdempotencyKey = None,
) -> SessionObject:
    """Say something: it steers what is generated, or is the user's next message."""
    keys = request_keys(f"messages of {session_id}", body, idempotency_key)
    await service.steer(owner, session_id, body.content, keys)
    return await _session(service, owner, session_id)


@router.post("/{session_id}/pause", responses=CONFLICT)
async def pause_session(session_id: str, service: ServiceOf, owner: OwnerOf) -> SessionObject:
    """Stop a session where it is; a call that has begun is completed."""
    await (await service.own_agent(owner, session_id)).hold(True)
    return await _session(service, owner, session_id)


@router.post("/{session_id}/resume", responses=CONFLICT)
async def resume_session(session_id: str, service: ServiceOf, owner: OwnerOf) -> SessionObject:
    """Let a paused session go on."""
    await (await service.own_agent(owner, session_id)).hold(False)
    return await _session(service, owner, session_id)


@router.post("/{session_id}/cancel", responses=CONFLICT)
async def cancel_session(session_id: str, service: ServiceOf, owner: OwnerOf) -> SessionObject:
    """End a session, whatever it does. The answer comes when it has ended."""
    await service.cancel(owner, session_id)
    return await _session(service, owner, session_id)


@router.get("/{session_id}/transcript")
async def get_transcript(session_id: str, service: ServiceOf, owner: OwnerOf) -> Transcript:
    """All that the session's model has read and written, as tokens and as messages."""
    return await transcript(service, await service.agents.get(owner, session_id))
