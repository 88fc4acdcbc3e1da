"""Questions of MCP servers to the user."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from mcp import types
from mcp.client import ClientRequestContext
from pydantic import ValidationError

from caesura.tools.context import CallContext
from caesura.tools.schema import Schema

_CALL: ContextVar[CallContext | None] = ContextVar("call", default=None)


class Elicitation:
    """Finds out which call a question belongs to, and puts it to that call's human.

    Since protocol version 2026-07-28 the server asks inside the call. Before, a question does
    not say to which call it belongs; it is then answered only if one call is under way, because
    the human of another session must never see it.
    """

    def __init__(self) -> None:
        self._under_way: list[CallContext] = []

    @contextmanager
    def during(self, context: CallContext) -> Iterator[None]:
        """Inside, the server may ask for the sake of this call."""
        token = _CALL.set(context)
        self._under_way.append(context)
        try:
            yield
        finally:
            self._under_way.remove(context)
            _CALL.reset(token)

    async def answer(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        """Answer the server's question."""
        call = _CALL.get()
        if call is None and len(self._under_way) == 1:
            call = self._under_way[0]
        if call is None:
            return types.ErrorData(
                code=types.INVALID_REQUEST,
                message="It cannot be told which call this question belongs to.",
            )
        if isinstance(params, types.ElicitRequestURLParams):
            answer = await call.ask_for_input(f"{params.message}\n{params.url}", None)
            return types.ElicitResult(action="accept" if answer.accepted else "decline")
        try:
            Schema(params.requested_schema)
        except ValueError as error:
            return types.ErrorData(code=types.INVALID_PARAMS, message=f"requestedSchema: {error}")
        answer = await call.ask_for_input(params.message, params.requested_schema)
        if not answer.accepted:
            return types.ElicitResult(action="decline")
        try:
            return types.ElicitResult.model_validate(
                {"action": "accept", "content": answer.content}
            )
        except ValidationError:
            return types.ErrorData(
                code=types.INVALID_PARAMS, message="The answer does not fit what was asked for."
            )
