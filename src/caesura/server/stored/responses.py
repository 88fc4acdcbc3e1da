"""The responses that a server keeps: found, continued and forgotten by their owners."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from caesura.server.bodies import BodyLimits, read_body
from caesura.server.errors import ApiError
from caesura.server.stored.items import Json, array_of, as_lines, is_said, of_lines
from caesura.session.database import Check, Statement
from caesura.session.errors import QuotaExceeded, UnknownResponse
from caesura.session.limits import Limits
from caesura.session.store import Place, ResponseRecord, Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose response is kept.

    Attributes:
        owner: its owner.
        items: the items that it adds.
        previous: where the response stands that it continues.
    """

    owner: str
    items: list[Json]
    previous: Place | None = None


class StoredResponses:
    """Responses in a store.

    Args:
        store: where they are.
        limits_of: the limits of an owner.
        body_limits: what a history may hold, as if its client had sent it.
    """

    def __init__(
        self, store: Store, limits_of: Callable[[str], Limits], body_limits: BodyLimits
    ) -> None:
        self._store = store
        self._limits_of = limits_of
        self._body_limits = body_limits

    async def continued(self, owner: str, response_id: str) -> tuple[Place, list[Json]]:
        """A response to go on from, and all items up to its end.

        Raises:
            ApiError: the owner has no such response, it is not over, or it is too long.
        """
        try:
            place = await self._store.place(owner, response_id)
        except UnknownResponse:
            raise ApiError(
                400,
                f"Previous response with id '{response_id}' not found: it was not stored, or has "
                "been deleted or forgotten. Send all items of the conversation instead.",
                param="previous_response_id",
                code="previous_response_not_found",
            ) from None
        if place.runs:
            raise ApiError(
                400,
                f"response {response_id} is being generated: wait until it is over",
                param="previous_response_id",
            )
        return place, [item for item in await self._items(place) if is_said(item)]

    async def items(self, owner: str, response_id: str) -> list[Json]:
        """All items that a response was generated from.

        Raises:
            UnknownResponse: the owner has no response of that id.
            ApiError: they are too long.
        """
        place = await self._store.place(owner, response_id)
        return await self._items(place, with_output=False)

    async def _items(self, place: Place, *, with_output: bool = True) -> list[Json]:
        most_bytes = self._body_limits.size_bytes
        rows = await self._store.lines_until(place, most_bytes + 1)
        lines = [line for row in rows for line in row]
        array = array_of(lines if with_output else lines[:-1])
        self._body_limits.require_size(len(array))
        items: list[Json] = await read_body(array, self._body_limits)
        return items

    async def response(self, owner: str, response_id: str) -> Json:
        """A response as it is now.

        Raises:
            UnknownResponse: the owner has no response of that id.
        """
        record = await self._store.response(owner, response_id)
        return json.loads(record.body) | {"output": of_lines(record.output)}

    async def events(self, owner: str, response_id: str) -> list[Json]:
        """The events of a response that was streamed in the background; none for others."""
        return of_lines(await self._store.response_events(owner, response_id))

    async def require_new(self, owner: str, response_id: str) -> None:
        """See that a response can be kept under an id that a client has chosen.

        Raises:
            ApiError: the owner has one of that id.
        """
        try:
            await self._store.place(owner, response_id)
        except UnknownResponse:
            return
        raise ApiError(400, f"there is a response {response_id} already", param="request_id")

    async def add(self, asked: Asked, response: Json, *, runs: bool = False) -> None:
        """Keep a response; the conversations of its owner that were used least make room for it.

        Args:
            asked: its request.
            response: the response.
            runs: it is to be generated; `finish` it then.

        Raises:
            SessionError: that cannot be done now.
        """
        record = _record(asked.owner, response, runs=runs)
        await self._store.commit(
            *self._store.add_response(record, as_lines(asked.items), asked.previous),
            *self._room(record),
        )

    async def finish(self, owner: str, response: Json, events: Sequence[Json]) -> None:
        """Keep the rest of a response; if there is no room, only that it is over.

        Args:
            owner: its owner.
            response: the response.
            events: of its stream, if they are kept.

        Raises:
            StoreUnavailable: that cannot be done now.
        """
        record = _record(owner, response)
        try:
            await self._store.commit(
                self._store.finish_response(record, as_lines(events)), *self._room(record)
            )
        except QuotaExceeded as error:
            logger.warning("the response %s is kept without its output: %s", record.id, error)
            await self._store.commit(self._store.finish_response(replace(record, output=""), ""))

    def _room(self, record: ResponseRecord) -> Sequence[Statement | Check]:
        limit_bytes = self._limits_of(record.owner).owner_bytes
        return self._store.room_for_response(record.owner, record.id, limit_bytes)

    async def require_few_running(self, owner: str) -> None:
        """See that the owner may have one more response that is generated in the background.

        Raises:
            QuotaExceeded: there are too many.
        """
        most = self._limits_of(owner).streams_per_owner
        if await self._store.responses_running(owner) >= most:
            raise QuotaExceeded(
                f"{most} responses are being generated in the background "
                "(sessions.streams_per_owner): wait"
            )

    async def delete(self, owner: str, response_id: str) -> None:
        """Forget a response.

        Raises:
            UnknownResponse: the owner has no response of that id.
        """
        place = await self._store.place(owner, response_id)
        await self._store.commit(*self._store.delete_response(owner, place))

    async def fail_lost(self) -> None:
        """What a server was generating that has stopped since has failed."""
        error = {"code": "server_error", "message": "the server was restarted"}
        for record in await self._store.lost_responses():
            body = json.dumps({**json.loads(record.body), "status": "failed", "error": error})
            await self._store.commit(self._store.finish_response(replace(record, body=body), ""))


def _record(owner: str, response: Json, *, runs: bool = False) -> ResponseRecord:
    body = {name: value for name, value in response.items() if name != "output"}
    return ResponseRecord(
        owner, response["id"], as_lines(response["output"]), json.dumps(body), runs
    )
