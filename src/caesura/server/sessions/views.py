"""Sessions, approvals and events as clients see them."""

from collections.abc import Iterable
from typing import Any

from caesura.server.sessions.event_stream import event_data
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
    EventType,
    SessionRecord,
)


async def session_object(service: Service, record: SessionRecord) -> SessionObject:
    """A session with what it waits for and what it has said."""
    calls = [] if record.ending else await service.store.undelivered_calls(record.id)
    waiting = await service.store.session_approvals(record.id, ApprovalState.WAITING)
    output = await service.store.last_event(record.id, EventType.OUTPUT)
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
        output_text=None if output is None else str(output.data["text"]),
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
            *_items(await service.store.events(record.id)),
        ],
    )


def _items(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Messages since the session began. Results come in the order of their calls, as the model
    reads them, and not in which they were there."""
    items: list[dict[str, Any]] = []
    undelivered: list[str] = []
    results: dict[str, dict[str, Any]] = {}

    def deliver() -> None:
        items.extend(results.pop(call_id) for call_id in undelivered if call_id in results)
        undelivered.clear()

    for event in events:
        data = event.data
        match event.type:
            case EventType.OUTPUT:
                shown = ("text", "content"), ("reasoning", "reasoning"), ("stop", "stop")
                output = {name: data[field] for field, name in shown}
                items.append({"role": "assistant", **output, "calls": []})
            case EventType.CALL:
                named = {name: data[name] for name in ("call_id", "name", "arguments")}
                items[-1]["calls"].append(named)
                undelivered.append(str(data["call_id"]))
            case EventType.RESULT:
                told = {name: data[name] for name in ("call_id", "name", "content", "ending")}
                results[str(data["call_id"])] = {"role": "tool", **told}
            case EventType.MESSAGE:
                if results.keys() >= set(undelivered):
                    deliver()
                items.append({"role": data["role"], "content": data["content"]})
            case EventType.PHASE:
                if data["phase"] == "generating" and results.keys() >= set(undelivered):
                    deliver()
    deliver()
    return items
