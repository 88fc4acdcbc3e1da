"""Routes of approvals: what sessions ask humans, and the answers."""

from typing import Annotated

import jsonschema
from fastapi import APIRouter, Query
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from caesura.server.errors import ApiError
from caesura.server.routing import CONFLICT, ERRORS, ApiRoute
from caesura.server.sessions.schemas import ApprovalObject, GivenAnswer, ListOf
from caesura.server.sessions.service import OwnerOf, ServiceOf
from caesura.server.sessions.views import approval_object
from caesura.session.records import ApprovalState
from caesura.tools.call import Question, QuestionKind

router = APIRouter(
    prefix="/v1/approvals", tags=["approvals"], route_class=ApiRoute, responses=ERRORS
)

_LONGEST_MESSAGE = 500


@router.get("")
async def list_approvals(
    service: ServiceOf,
    owner: OwnerOf,
    state: Annotated[ApprovalState | None, Query(description="All by default.")] = None,
) -> ListOf[ApprovalObject]:
    """What one's sessions ask, the oldest first."""
    records = await service.agents.approvals(owner, state)
    return ListOf(data=[approval_object(record) for record in records])


# An id may have slashes: those of steps of a sequence do.
@router.get("/{approval_id:path}")
async def get_approval(approval_id: str, service: ServiceOf, owner: OwnerOf) -> ApprovalObject:
    """One question, and its answer if there is one."""
    return approval_object(await service.agents.approval(owner, approval_id))


@router.post("/{approval_id:path}", responses=CONFLICT)
async def answer_approval(
    approval_id: str, body: GivenAnswer, service: ServiceOf, owner: OwnerOf
) -> ApprovalObject:
    """Answer a question; the session goes on."""
    record = await service.agents.approval(owner, approval_id)
    if record.state is ApprovalState.WAITING:
        _require_fit(record.question, body)
        if await service.agents.answer(owner, approval_id, body.answer()):
            return approval_object(await service.agents.approval(owner, approval_id))
        record = await service.agents.approval(owner, approval_id)
    raise ApiError(409, f"it was {record.state} already", code=f"approval_{record.state}")


def _require_fit(question: Question, given: GivenAnswer) -> None:
    """See that an answer answers its question.

    Raises:
        ApiError: it does not; the message says why.
    """
    if not given.accepted:
        return
    if question.kind is QuestionKind.QUESTION:
        if given.text is None:
            raise ApiError(400, "a question needs text", param="text")
        if question.choices and given.text not in question.choices:
            choices = ", ".join(map(repr, question.choices))
            raise ApiError(400, f"text must be one of {choices}", param="text")
    if question.kind is QuestionKind.INPUT and question.schema is not None:
        _require_schema(dict(question.schema), given.content)


def _require_schema(schema: dict[str, JsonValue], content: JsonValue) -> None:
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    validator = kind(schema, registry=Registry())  # references elsewhere are never fetched
    try:
        kind.check_schema(schema)
        problem = jsonschema.exceptions.best_match(validator.iter_errors(content))
    except (jsonschema.SchemaError, Unresolvable, RecursionError):
        return  # the tool's own schema is broken: whoever asked must look at the answer
    if problem is not None:
        where = "".join(f"[{key!r}]" for key in problem.absolute_path)
        message = f"content{where}: {problem.message}"[:_LONGEST_MESSAGE]
        raise ApiError(400, message, param="content")
