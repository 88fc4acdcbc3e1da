"""Routes of approvals: what sessions ask humans, and the answers."""

from typing import Annotated

from fastapi import APIRouter, Query

from caesura.server.access import Caller, CallerOf
from caesura.server.errors import ApiError
from caesura.server.routing import CONFLICT, ERRORS, ApiRoute
from caesura.server.sessions.retries import IdempotencyKey, request_keys
from caesura.server.sessions.schemas import ApprovalObject, GivenAnswer, Page
from caesura.server.sessions.service import Service, ServiceOf
from caesura.server.sessions.views import approval_object, approval_objects
from caesura.session.errors import UnknownSession
from caesura.session.records import ApprovalRecord, ApprovalState
from caesura.tools.call import Question, QuestionKind
from caesura.tools.schema import Schema

router = APIRouter(
    prefix="/v1/approvals", tags=["approvals"], route_class=ApiRoute, responses=ERRORS
)


@router.get("")
async def list_approvals(
    service: ServiceOf,
    caller: CallerOf,
    state: Annotated[ApprovalState | None, Query(description="All by default.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[
        str | None,
        Query(description="The id of an approval, or a time: of those that wait only newer ones."),
    ] = None,
    before: Annotated[
        str | None,
        Query(
            description="The same for those that do not wait any more: only older ones, and none "
            "that waits."
        ),
    ] = None,
) -> Page[ApprovalObject]:
    """What one's sessions ask: what waits, the oldest first, then the rest, the newest first.

    Keys that may approve see what operators are asked by the sessions of others, too.
    """
    _require_place(state, after, before)
    records = await service.store.approvals(
        caller.owner,
        state,
        after_seconds=None if after is None else await _seconds(service, caller, after),
        before_seconds=None if before is None else await _seconds(service, caller, before),
        limit=limit + 1,
        operator=caller.may_approve,
    )
    shown = await approval_objects(service.store, records[:limit])
    return Page(data=shown, has_more=len(records) > limit)


def _require_place(state: ApprovalState | None, after: str | None, before: str | None) -> None:
    if before is not None and (after is not None or state is ApprovalState.WAITING):
        raise ApiError(
            400, "before leaves out what waits; give only after for that", param="before"
        )
    if after is not None and state not in (None, ApprovalState.WAITING):
        raise ApiError(400, "after is for what waits; give before instead", param="after")


async def _seconds(service: Service, caller: Caller, place: str) -> float:
    try:
        return float(place)
    except ValueError:
        return (await _record(service, caller, place)).created_seconds


async def _record(service: Service, caller: Caller, approval_id: str) -> ApprovalRecord:
    """The question, if the caller may see it."""
    record = await service.store.approval(approval_id)
    if record is None or not (
        record.owner == caller.owner or (caller.may_approve and record.question.by_operator)
    ):
        raise UnknownSession(f"there is no approval {approval_id}")
    return record


# An id may have slashes: those of steps of a sequence do.
@router.get("/{approval_id:path}")
async def get_approval(approval_id: str, service: ServiceOf, caller: CallerOf) -> ApprovalObject:
    """One question, and its answer if there is one."""
    record = await _record(service, caller, approval_id)
    return await approval_object(service.store, record)


@router.post("/{approval_id:path}", responses=CONFLICT)
async def answer_approval(
    approval_id: str,
    body: GivenAnswer,
    service: ServiceOf,
    caller: CallerOf,
    idempotency_key: IdempotencyKey = None,
) -> ApprovalObject:
    """Answer a question; the session goes on."""
    record = await _record(service, caller, approval_id)
    owner = record.owner
    await _require_right(service, caller, record)
    keys = request_keys(f"answer to {approval_id}", body, idempotency_key)
    if record.state is ApprovalState.WAITING:
        _require_fit(record.question, body)
    answered = await service.agents.answer(owner, approval_id, body.answer(caller.key), keys)
    record = await service.agents.approval(owner, approval_id)
    if not answered:
        raise ApiError(409, f"it was {record.state} already", code=f"approval_{record.state}")
    return await approval_object(service.store, record)


async def _require_right(service: Service, caller: Caller, record: ApprovalRecord) -> None:
    session = await service.store.session(record.question.session_id)
    made_by = None if session is None else session.spec.made_by
    if not caller.may_answer(record.question, record.owner, made_by):
        raise ApiError(
            403,
            "an operator answers this: another API key than the session's, with may_approve",
            code="operator_only",
        )


def _require_fit(question: Question, given: GivenAnswer) -> None:
    if not given.accepted:
        return
    if question.kind is QuestionKind.QUESTION:
        if given.text is None:
            raise ApiError(400, "a question needs text", param="text")
        if question.choices and given.text not in question.choices:
            choices = ", ".join(map(repr, question.choices))
            raise ApiError(400, f"text must be one of {choices}", param="text")
    if question.kind is QuestionKind.INPUT and question.schema is not None:
        try:
            problem = Schema(dict(question.schema)).problem(given.content)
        except ValueError:
            return  # the tool's own schema is broken: whoever asked must look at the answer
        if problem is not None:
            raise ApiError(400, f"content: {problem}", param="content")
