"""Sessions, approvals and events as clients see them."""

import asyncio
from collections.abc import Sequence

from pydantic import JsonValue

from caesura.server.sessions.items import items_of
from caesura.server.sessions.schemas import (
    ApprovalObject,
    EventObject,
    GivenAnswer,
    PendingCall,
    SessionObject,
    Transcript,
)
from caesura.server.sessions.service import Service
from caesura.server.sessions.titles import AskedFor, asked_for, title_of
from caesura.session.records import (
    ApprovalRecord,
    ApprovalState,
    Event,
    EventType,
    SessionRecord,
)
from caesura.session.store import Store
from caesura.tools.arguments import shown_arguments


async def session_object(service: Service, record: SessionRecord) -> SessionObject:
    """A session with what it waits for and what it has said."""
    calls = [] if record.ending else await service.store.undelivered_calls(record.id)
    waiting = await service.store.session_approvals(record.id, ApprovalState.WAITING)
    outputs = await service.store.latest_answer(record.id)
    asked = await asked_for(service.store, record)
    return SessionObject(
        id=record.id,
        title=asked.title,
        phase=record.phase,
        held=record.held,
        turns=record.turns,
        ending=record.ending,
        error=record.error,
        created_at=record.created_seconds,
        updated_at=record.updated_seconds,
        metadata=record.spec.metadata,
        tools=record.spec.tools,
        function_calling=record.spec.function_calling,
        protocol=record.spec.protocol,
        pending_calls=[
            PendingCall(
                call_id=call.call.id,
                name=call.call.name,
                arguments=call.call.arguments_text,
                state=call.state,
            )
            for call in calls
        ],
        approvals=[_approval_object(approval, asked) for approval in waiting],
        output_text="".join(str(output.data["text"]) for output in outputs) if outputs else None,
    )


async def approval_objects(store: Store, records: Sequence[ApprovalRecord]) -> list[ApprovalObject]:
    """Questions to humans, with what their sessions were asked for."""
    ids = sorted({record.question.session_id for record in records})
    asked = dict(
        zip(ids, await asyncio.gather(*(_asked_for(store, id_) for id_ in ids)), strict=True)
    )
    return [_approval_object(record, asked[record.question.session_id]) for record in records]


async def approval_object(store: Store, record: ApprovalRecord) -> ApprovalObject:
    """One of them."""
    (shown,) = await approval_objects(store, [record])
    return shown


async def _asked_for(store: Store, session_id: str) -> AskedFor:
    record = await store.session(session_id)
    return await asked_for(store, record) if record is not None else AskedFor()


def _approval_object(record: ApprovalRecord, asked: AskedFor) -> ApprovalObject:
    question, answer = record.question, record.answer
    return ApprovalObject(
        id=question.key,
        session_id=question.session_id,
        session_title=asked.title,
        user_message=asked.user_message,
        call_id=question.call_id,
        kind=question.kind,
        text=question.text,
        tool=question.tool,
        provider=question.provider,
        arguments=dict(question.arguments),
        arguments_text=shown_arguments(question.arguments),
        choices=list(question.choices),
        schema_=None if question.schema is None else dict(question.schema),
        state=record.state,
        answer=None
        if answer is None
        else GivenAnswer(
            accepted=answer.accepted,
            reason=answer.reason,
            text=answer.text,
            content=answer.content,
        ),
        created_at=record.created_seconds,
        answered_at=record.answered_seconds,
    )


def event_data(record: SessionRecord, event: Event) -> dict[str, JsonValue]:
    """What an event says, as clients get it.

    The messages that a session was made with are in its record, and nowhere twice; so events of
    sessions that older versions have made say them, too.
    """
    data = {**event.data, "session_id": record.id, "created_at": event.seconds}
    if event.type is EventType.CREATED:
        data |= {"title": title_of(record.spec), "messages": [*record.spec.messages]}
    return data


def event_object(record: SessionRecord, event: Event) -> EventObject:
    """An event with its data."""
    data = event_data(record, event)
    return EventObject.model_validate({**data, "id": event.number, "type": event.type})


async def transcript(service: Service, record: SessionRecord) -> Transcript:
    """All tokens of a session, and the messages that they are."""
    return Transcript(
        session_id=record.id,
        token_ids=await service.store.transcript(record.id),
        items=[
            *map(dict, record.spec.messages),
            *items_of(await service.store.events(record.id)),
        ],
    )
