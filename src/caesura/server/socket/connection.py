"""One socket: its messages, its lanes, and its limits."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from pydantic_core import to_json
from starlette.types import Message, Receive, Send

from caesura.server.bodies import BodyLimits, read_body
from caesura.server.errors import ApiError
from caesura.server.socket.client_events import (
    Create,
    Inject,
    Json,
    Steer,
    read_event,
    stream_id_of,
)
from caesura.server.socket.histories import Ending, Histories
from caesura.server.socket.inner_requests import InnerRequests
from caesura.server.socket.lane import Lane
from caesura.server.socket.server_events import (
    SteerError,
    error_event,
    inject_failed,
    steer_failed,
)

RESTARTING = 1012
"""The code of WebSocket with which clients dial again by themselves."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What one socket may have.

    Attributes:
        active: responses that are written at the same time; others wait.
        lanes: named lanes, over its whole life.
        waiting: requests of one lane that wait for their turn.
        seconds: after which it takes no more requests, and is closed when it has no work.
    """

    active: int = 16
    lanes: int = 32
    waiting: int = 64
    seconds: float = 3600.0


class Connection:
    """Reads what the client sends, and answers it.

    Args:
        requests: makes the client's requests.
        receive: gives its messages.
        send: sends to it.
        body_limits: of a message.
        limits: of the socket.
    """

    def __init__(
        self,
        requests: InnerRequests,
        receive: Receive,
        send: Send,
        body_limits: BodyLimits,
        limits: SocketLimits,
    ) -> None:
        self._requests = requests
        self._receive = receive
        self._raw_send = send
        self._body_limits = body_limits
        self._limits = limits
        self._histories = Histories()
        self._lanes: dict[str | None, Lane] = {}
        self._places = asyncio.Semaphore(limits.active)
        self._sending = asyncio.Lock()
        self._is_old = False

    async def serve(self) -> None:
        """Until the client goes, or the socket is too old."""
        ageing = asyncio.create_task(self._age())
        try:
            while (message := await self._receive())["type"] != "websocket.disconnect":
                if message["type"] == "websocket.receive":
                    await self._take(message)
        finally:
            ageing.cancel()
            await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    async def _age(self) -> None:
        await asyncio.sleep(self._limits.seconds)
        self._is_old = True
        while working := [lane.working for lane in self._lanes.values() if lane.working]:
            await asyncio.wait(working)
        await self._send(error_event(_too_old()))
        async with self._sending:
            await self._raw_send({"type": "websocket.close", "code": RESTARTING})

    async def _send(self, event: Json) -> None:
        """Send an event; to a client that has gone, nothing is sent."""
        text = to_json(event).decode()
        async with self._sending:
            with suppress(OSError, RuntimeError):
                await self._raw_send({"type": "websocket.send", "text": text})

    async def _take(self, message: Message) -> None:
        """One message of the client; whatever is wrong with it, the socket stays."""
        value: object = None
        try:
            content = message.get("bytes")
            text = message.get("text") or ""
            try:
                raw = text.encode() if content is None else content
                value = await read_body(raw, self._body_limits)
            except ValueError:  # lone surrogates, too
                raise ApiError(400, "a message is one JSON object", code="invalid_event") from None
            event = read_event(value)
            match event:
                case Create():
                    self._create(event)
                case Steer():
                    await self._steer(event)
                case Inject():
                    await self._inject(event)
        except ApiError as error:
            await self._send(error_event(error, stream_id_of(value)))

    def _create(self, create: Create) -> None:
        if self._is_old:
            raise _too_old()
        lane = self._lanes.get(create.stream_id)
        if lane is None:
            named = len(self._lanes.keys() - {None})
            if create.stream_id is not None and named >= self._limits.lanes:
                raise ApiError(
                    400,
                    f"a socket has {self._limits.lanes} named lanes at most: use one of them",
                    param="stream_id",
                    code="websocket_stream_limit_reached",
                )
            lane = Lane(create.stream_id, self._requests, self._histories, self._send, self._places)
            self._lanes[create.stream_id] = lane
        if lane.waiting >= self._limits.waiting:
            raise ApiError(
                429,
                f"{lane.waiting} requests wait in this lane: send more when some are answered",
                code="too_many_requests",
            )
        lane.add(create)

    async def _steer(self, steer: Steer) -> None:
        if steer.problem is not None:
            await self._unnumbered(steer_failed(steer, SteerError.INVALID, steer.problem))
        elif (lane := self._lane_of(steer.target)) is not None:
            await lane.steer(steer)
        else:
            await self._unnumbered(steer_failed(steer, self._over(steer.target)))

    async def _inject(self, inject: Inject) -> None:
        if inject.problem is not None:
            await self._unnumbered(inject_failed(inject, SteerError.INVALID, inject.problem))
        elif (lane := self._lane_of(inject.target)) is not None:
            await lane.inject(inject)
        else:
            await self._unnumbered(inject_failed(inject, self._over(inject.target)))

    async def _unnumbered(self, event: Json) -> None:
        """An event of no response that is active: what numbers it would have is over."""
        await self._send({**event, "sequence_number": 0})

    def _lane_of(self, response_id: str) -> Lane | None:
        """The lane whose active response it is."""
        for lane in self._lanes.values():
            if lane.reply is not None and lane.reply.id == response_id:
                return lane
        return None

    def _over(self, response_id: str) -> SteerError:
        """Why a response that is not active takes nothing."""
        match self._histories.ending_of(response_id):
            case Ending.COMPLETED:
                return SteerError.COMPLETED
            case Ending.OTHER:
                return SteerError.NOT_ACTIVE
        return SteerError.NOT_FOUND


def _too_old() -> ApiError:
    return ApiError(
        400,
        "this socket has reached its age: open another one",
        code="websocket_connection_limit_reached",
    )
