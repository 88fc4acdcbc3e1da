"""Sessions, approvals and events as clients see them."""

from caesura.server.sessions.event_stream import event_data
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
from caesura.session.records import (
    ApprovalRecord,
    ApprovalState,
    Event,
    SessionRecord,
)


async def session_object(service: Service, record: SessionRecord) -> SessionObject:
    """A session with what it waits for and what it has said."""
    calls = [] if record.ending else await service.store.undelivered_calls(record.id)
    waiting = await service.store.session_approvals(record.id, ApprovalState.WAITING)
    outputs = await service.store.latest_answer(record.id)
    return SessionObject(
        id=record.id,
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
        approvals=[approval_object(approval) for approval in waiting],
        output_text="".join(str(output.data["text"]) for output in outputs) if outputs else None,
    )


def approval_object(record: ApprovalRecord) -> ApprovalObject:
    """A question to a human."""
    question, answer = record.question, record.answer
    return ApprovalObject(
        id=question.key,
        session_id=question.session_id,
        call_id=question.call_id,
        kind=question.kind,
        text=question.text,
        tool=question.tool,
        arguments=dict(question.arguments),
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


def event_object(session_id: str, event: Event) -> EventObject:
    """An event with its data."""
    data = event_data(session_id, event)
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
