"""Sessions, approvals and events as clients see them."""

import asyncio
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pydantic import JsonValue

from caesura.server.sessions.items import items_of
from caesura.server.sessions.schemas import (
    ApprovalObject,
    EventObject,
    PendingCall,
    SessionObject,
    ShownAnswer,
    Transcript,
)
from caesura.server.sessions.service import Service
from caesura.session.records import (
    ApprovalRecord,
    ApprovalState,
    Event,
    EventType,
    Message,
    SessionRecord,
    SessionSpec,
)
from caesura.session.store import Store, left_out_if_unreadable

LONGEST_TITLE = 80
LONGEST_TEXT = 2000
_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class AskedFor:
    """What a session was asked for.

    Attributes:
        title: see `title_of`.
        user_message: the latest message of its user, at most `LONGEST_TEXT` characters.
    """

    title: str | None = None
    user_message: str | None = None


def title_of(spec: SessionSpec) -> str | None:
    """The title of a session: the client's (`metadata.title`), or the first line of the user's
    first message, cut at a word. None if the user has not said anything."""
    given = spec.metadata.get("title") or spec.metadata.get("name")
    texts = _user_texts(spec.messages)
    if given or not texts:
        return given or None
    line = texts[0].splitlines()[0]
    short = textwrap.shorten(line, LONGEST_TITLE, placeholder=_ELLIPSIS)
    # `shorten` leaves out a word that is too long, and so a whole text without spaces.
    return short if short != _ELLIPSIS else _cut(line, LONGEST_TITLE)


async def asked_for(store: Store, record: SessionRecord) -> AskedFor:
    """What a session was asked for, as of now."""
    added = await store.last_event(record.id, EventType.MESSAGE)
    texts = [str(added.data["content"])] if added is not None else _user_texts(record.spec.messages)
    return AskedFor(title_of(record.spec), _cut(texts[-1], LONGEST_TEXT) if texts else None)


def _user_texts(messages: Sequence[Message]) -> list[str]:
    """What the user says in messages, where they say anything."""
    texts = [_text(message.get("content")) for message in messages if message.get("role") == "user"]
    return [text.strip() for text in texts if text.strip()]


def _text(content: JsonValue) -> str:
    parts = content if isinstance(content, list) else [{"text": content}]
    return "\n".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + _ELLIPSIS


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
        approvals=_approval_objects(waiting, {record.id: asked}),
        output_text="".join(str(output.data["text"]) for output in outputs) if outputs else None,
    )


async def session_objects(
    service: Service, records: Sequence[SessionRecord]
) -> list[SessionObject]:
    """Sessions as they are in lists."""
    shown = []
    for record in records:
        with left_out_if_unreadable():
            shown.append(await session_object(service, record))
    return shown


async def approval_objects(store: Store, records: Sequence[ApprovalRecord]) -> list[ApprovalObject]:
    """Questions to humans, with what their sessions were asked for."""
    ids = sorted({record.question.session_id for record in records})
    asked = dict(
        zip(ids, await asyncio.gather(*(_asked_for(store, id_) for id_ in ids)), strict=True)
    )
    return _approval_objects(records, asked)


async def approval_object(store: Store, record: ApprovalRecord) -> ApprovalObject:
    """One of them."""
    return _approval_object(record, await _asked_for(store, record.question.session_id))


async def _asked_for(store: Store, session_id: str) -> AskedFor:
    with left_out_if_unreadable():
        if (record := await store.session(session_id)) is not None:
            return await asked_for(store, record)
    return AskedFor()


def _approval_objects(
    records: Sequence[ApprovalRecord], asked: Mapping[str, AskedFor]
) -> list[ApprovalObject]:
    shown = []
    for record in records:
        with left_out_if_unreadable():
            shown.append(_approval_object(record, asked[record.question.session_id]))
    return shown


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
        arguments_text=question.arguments_text,
        choices=list(question.choices),
        schema_=None if question.schema is None else dict(question.schema),
        state=record.state,
        by_operator=question.by_operator,
        answer=None if answer is None else ShownAnswer(**asdict(answer)),
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
