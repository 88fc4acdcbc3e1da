"""One lane of a socket: its responses, one after the other."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from caesura.server.clients.lanes import LANE, EngineLane
from caesura.server.clients.transcripts import ClientCall
from caesura.server.errors import ApiError, error_body
from caesura.server.socket.client_events import Create, Inject, Json, Steer, items_of
from caesura.server.socket.histories import Ending, Histories, History
from caesura.server.socket.inner_requests import InnerRequests
from caesura.server.socket.reply import CALLS, TERMINAL, Reply
from caesura.server.socket.server_events import (
    AcceptedSteer,
    SteerError,
    error_event,
    inject_failed,
    injected,
    steer_failed,
)

Send = Callable[[Json], Awaitable[None]]

MOST_STEERS = 16
"""Steers, and results, that wait for one response."""
_ENDS_GOOD = frozenset({"response.completed", "response.incomplete"})


@dataclass(slots=True, eq=False)
class Lane:
    """Answers the requests of a lane in their order, each when the one before it is over.

    Attributes:
        stream_id: its name; None for the one without.
        requests: makes them.
        histories: of the whole socket.
        send: sends an event to the client.
        places: for responses that are active at the same time.
        reply: the response that is active.
        working: answers what there is to answer; None if there is nothing.
    """

    stream_id: str | None
    requests: InnerRequests
    histories: Histories
    send: Send
    places: asyncio.Semaphore
    reply: Reply | None = None
    _waiting: deque[Create] = field(default_factory=deque)
    _pending: tuple[str, list[AcceptedSteer]] | None = None  # by the response that waits
    _engine: EngineLane = field(default_factory=EngineLane)
    working: asyncio.Task[None] | None = None

    def add(self, create: Create) -> None:
        """One more request."""
        self._waiting.append(create)
        if self.working is None:
            self.working = asyncio.create_task(self._work())

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._waiting)

    async def close(self) -> None:
        """The socket is closed: whatever is generated ends."""
        self._waiting.clear()
        if self.working is not None:
            self.working.cancel()
            await asyncio.wait((self.working,))
        await self._engine.close()

    async def steer(self, steer: Steer) -> None:
        """More input for the active response, which is its target."""
        reply = self.reply
        assert reply is not None
        if not (reply.create.generates and _can_be_steered(reply.create.body)):
            await self.send(reply.numbered(steer_failed(steer, SteerError.NOT_SUPPORTED)))
        elif len(reply.steers) >= MOST_STEERS:
            await self.send(reply.numbered(steer_failed(steer, SteerError.TOO_MANY)))
        else:
            accepted = AcceptedSteer(steer)
            reply.steers.append(accepted)
            await self.send(reply.numbered(accepted.accepted()))
            await self._interrupt(reply)

    async def inject(self, inject: Inject) -> None:
        """Results for the active response, which is their target."""
        reply = self.reply
        assert reply is not None
        if len(reply.injections) >= MOST_STEERS:
            await self.send(reply.numbered(inject_failed(inject, SteerError.TOO_MANY)))
            return
        reply.injections.append(inject)
        await self.send(reply.numbered(injected(inject)))
        await self._interrupt(reply)

    async def _interrupt(self, reply: Reply) -> None:
        """Stop the generation for what has come, where that is possible now."""
        if reply is not self.reply or not reply.has_news or not reply.can_be_interrupted:
            return
        reply.is_interrupted = True
        if reply.injections:
            items = [item for inject in reply.injections for item in inject.items]
        else:
            items = [item for each in reply.steers for item in each.steer.items]
        calls = [
            ClientCall(item["call_id"], item["name"])
            for item in reply.written
            if item.get("type") in CALLS
        ]
        await self._engine.interrupt(items, calls)

    # The work

    async def _work(self) -> None:
        try:
            while self._waiting:
                async with self.places:
                    await self._answer(self._waiting.popleft())
        finally:
            self.working = None

    async def _answer(self, create: Create) -> None:
        try:
            following: Reply | None = await self._begun(create)
        except ApiError as error:
            await self._failed(create, error)
            return
        while following is not None:
            following = await self._written(following)

    async def _begun(self, create: Create) -> Reply:
        """The response to a request, with all that it follows."""
        steered: list[Json] = []
        if self._pending is not None:
            response_id, steers = self._pending
            self._pending = None
            if create.previous == response_id:
                steered = [item for each in steers for item in each.steer.items]
            else:
                for each in steers:
                    await self.send(each.failed(SteerError.NOT_ACTIVE))
        history = self.histories.of(create.previous) or History((), create.previous)
        given = create.body.get("input")
        if given is not None and not isinstance(given, str | list):
            raise ApiError(400, "input is a text or a list of items", param="input")
        items = [*history.items, *steered, *items_of(given)]
        return Reply(create, history.stored, items)

    async def _written(self, reply: Reply) -> Reply | None:
        """Have a response written to its end; the one that follows it by itself, if one does."""
        self.reply = reply
        try:
            end = await self._passed_on(reply)
            while end is not None and reply.injections and end["type"] in _ENDS_GOOD:
                reply.goes_on(end)
                end = await self._passed_on(reply)
        except Exception as error:
            self.reply = None
            await self._failed(reply.create, error, reply)
            return None
        finally:
            self.reply = None
        return await self._ended(reply, end)

    async def _passed_on(self, reply: Reply) -> Json | None:
        """Pass the events of one request on; the last of them, which is not sent yet."""
        body = {**reply.create.body, "input": reply.items}
        if reply.stored is not None:
            body["previous_response_id"] = reply.stored
        if not reply.create.generates:
            body["max_output_tokens"] = 1  # the least that can be asked for
        engine, end = self._engine, None
        async with aclosing(self.requests.events(body, **{LANE: engine})) as events:
            async for event in events:
                if event.get("type") in TERMINAL:
                    end = event
                elif (told := reply.passed(event, was_cut=engine.was_cut)) is not None:
                    await self.send(told)
                if reply.has_news and end is None:
                    await self._interrupt(reply)
        if end is not None and end["type"] in _ENDS_GOOD:
            reply.kept(end)
        return end

    async def _ended(self, reply: Reply, end: Json | None) -> Reply | None:
        kind = "error" if end is None else str(end["type"])
        if end is None or kind == "error":
            said = (end or {}).get("message") or (end or {}).get("error")
            message = said if isinstance(said, str) else "the response has ended without an end"
            await self._failed(reply.create, ApiError(500, message, code="server_error"), reply)
            return None
        assert reply.id is not None
        steers = reply.steers
        news = [item for each in steers for item in each.steer.items]
        waiting = reply.waiting_calls(news)
        if self._engine.was_cut and waiting:
            await self._engine.close()  # the steers have gone in, and the call comes first
        elif self._engine.was_cut and steers:
            end = _steered(end)
        told = reply.passed(end, was_cut=False)
        assert told is not None
        kind = str(told["type"])
        if kind in _ENDS_GOOD:
            history = History(tuple(reply.items), reply.stored)
            self.histories.keep(self.stream_id, reply.id, history)
        else:
            self.histories.failed(self.stream_id, reply.create.previous)
        is_completed = kind == "response.completed"
        self.histories.ended(reply.id, Ending.COMPLETED if is_completed else Ending.OTHER)
        await self.send(told)
        for inject in reply.injections:
            await self.send(reply.numbered(inject_failed(inject, SteerError.NOT_ACTIVE)))
        if not steers:
            return None
        if kind not in _ENDS_GOOD:
            for each in steers:
                await self.send(reply.numbered(each.failed(SteerError.NO_SUCCESSOR)))
            return None
        if waiting:
            self._pending = (reply.id, steers)
            for each in steers:
                await self.send(reply.numbered(each.pending([_stub(call) for call in waiting])))
            return None
        return self._successor(reply, news)

    def _successor(self, reply: Reply, news: list[Json]) -> Reply:
        """What goes on with the steers of a response, with the same settings."""
        create = replace(reply.create, previous=reply.id)
        return Reply(create, reply.stored, [*reply.items, *news], steered_by=reply.steers)

    async def _failed(self, create: Create, error: Exception, reply: Reply | None = None) -> None:
        """A response could not be made, or has broken off."""
        if reply is not None and reply.stored is not None and _is_not_found(error):
            error = ApiError(
                400,
                error_body(error)[1].error.message,
                param="previous_response_id",
                code="previous_response_not_found",
            )
        self.histories.failed(self.stream_id, create.previous)
        lost: list[AcceptedSteer] = []
        if reply is not None:
            await self._engine.close()  # what was put in for it may be generating
            if reply.id is not None:
                self.histories.ended(reply.id, Ending.OTHER)
            lost = [*reply.steered_by, *reply.steers] if reply.id is None else reply.steers
            for inject in reply.injections:
                await self.send(reply.numbered(inject_failed(inject, SteerError.NOT_ACTIVE)))
        if reply is None or not reply.steered_by or reply.id is not None:
            event = error_event(error, self.stream_id)
            await self.send(event if reply is None else reply.numbered(event))
        for each in lost:
            failed = each.failed(SteerError.NO_SUCCESSOR, error_body(error)[1].error.message)
            await self.send(failed if reply is None else reply.numbered(failed))


def _can_be_steered(body: Json) -> bool:
    """Whether a response is one that another can follow by itself."""
    ours = body.get("caesura")
    if isinstance(ours, dict) and "tools" in ours:  # its session goes on by itself
        return False
    return body.get("conversation") is None and not body.get("context_management")


def _steered(end: Json) -> Json:
    """The last event of a response that goes on as another."""
    response = {
        **end["response"],
        "status": "incomplete",
        "incomplete_details": {"reason": "steered"},
    }
    return {**end, "type": "response.incomplete", "response": response}


def _is_not_found(error: Exception) -> bool:
    """Whether what a request continues is why it was refused."""
    return isinstance(error, ApiError) and (
        error.param == "previous_response_id"
        or (error.status_code == 404 and error.param != "model")
    )


def _stub(call: Json) -> Json:
    """What the client has to answer a call with."""
    named: Json = {name: call[name] for name in ("call_id", "name") if name in call}
    return {"type": CALLS[call["type"]], **named}
