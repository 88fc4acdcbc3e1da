"""Responses that are generated whether or not their clients stay."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

from caesura.server.errors import ApiError
from caesura.server.stored.items import Json
from caesura.server.stored.responses import Asked, StoredResponses
from caesura.session.errors import SessionError

logger = logging.getLogger(__name__)

_ITEM_DONE = "response.output_item.done"


@dataclass(slots=True, eq=False)
class _Running:
    """A response that is being generated.

    Attributes:
        response: as far as it has come.
        events: of its stream so far.
        keeps_events: its client may ask for them again.
        task: generates it.
        is_over: there will be no more events.
    """

    response: Json
    keeps_events: bool
    events: list[Json] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None
    is_over: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, event: Json) -> None:
        """One more event."""
        if "response" in event:
            self.response = event["response"]
        elif event["type"] == _ITEM_DONE:
            self.response["output"].append(event["item"])
        self.events.append(event)
        self.tell()

    def failure(self, status: str, message: str) -> Json:
        """The last event if it ends before it is complete."""
        error = {"code": "server_error", "message": message}
        response = {**self.response, "status": status, "error": error}
        number = len(self.events)
        return {"type": "response.failed", "sequence_number": number, "response": response}

    def tell(self) -> None:
        """Wake those who follow it."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self, after: int) -> AsyncGenerator[Json, None]:
        """Its events with a higher number, from the past and then as they happen."""
        position = after + 1
        while True:
            changed = self._changed
            while position < len(self.events):
                yield self.events[position]
                position += 1
            if self.is_over:
                return
            await changed.wait()


class Background:
    """All responses that are generated in the background.

    Args:
        stored: where they are kept.
    """

    def __init__(self, stored: StoredResponses) -> None:
        self._stored = stored
        self._running: dict[tuple[str, str], _Running] = {}
        self._is_stopping = False

    async def begin(
        self, asked: Asked, events: AsyncGenerator[Json, None], *, keeps_events: bool
    ) -> Json:
        """Generate a response; it as it is at first.

        Args:
            asked: its request.
            events: of its stream; the first has the response. Closed in the end.
            keeps_events: its client may ask for them again.

        Raises:
            SessionError: it cannot be kept.
        """
        try:
            await self._stored.require_few_running(asked.owner)
            first = await anext(events)
            queued = {**first["response"], "status": "queued"}
            await self._stored.add(asked, queued, runs=True)
        except BaseException:
            await events.aclose()
            raise
        running = _Running({}, keeps_events)
        running.add(first)
        place = (asked.owner, queued["id"])
        self._running[place] = running
        running.task = asyncio.create_task(self._generate(place, running, events), name=place[1])
        return queued

    async def _generate(
        self, place: tuple[str, str], running: _Running, events: AsyncGenerator[Json, None]
    ) -> None:
        owner, response_id = place
        last: Json | None = None
        try:
            async with aclosing(events):
                async for event in events:
                    if _is_last(event):
                        last = event
                        break
                    running.add(event)
            last = last or running.failure("failed", "the engine gave no answer")
        except asyncio.CancelledError:
            if self._is_stopping:
                last = running.failure("failed", "the server was stopped")
            else:
                last = running.failure("cancelled", "the response was cancelled")
        except Exception as error:
            logger.exception("response %s has failed", response_id)
            last = running.failure("failed", f"internal error ({type(error).__name__})")
        try:
            # Before anybody is told: who knows that it is over may continue it at once.
            kept = [*running.events, last] if running.keeps_events else ()
            await self._stored.finish(owner, last["response"], kept)
        except SessionError:
            logger.exception("response %s cannot be kept", response_id)
        finally:
            running.add(last)
            running.is_over = True
            running.tell()
            del self._running[place]

    async def response(self, owner: str, response_id: str) -> Json:
        """A response as it is now.

        Raises:
            UnknownResponse: the owner has no response of that id.
        """
        running = self._running.get((owner, response_id))
        if running is not None:
            return running.response
        return await self._stored.response(owner, response_id)

    async def follow(self, owner: str, response_id: str, after: int) -> AsyncIterator[Json]:
        """The events of a response with a higher number.

        Raises:
            UnknownResponse: the owner has no response of that id.
            ApiError: it was not streamed in the background.
        """
        running = self._running.get((owner, response_id))
        if running is not None and running.keeps_events:
            return running.follow(after)
        await self._stored.response(owner, response_id)
        events = await self._stored.events(owner, response_id)
        if not events:
            raise ApiError(
                400,
                f"response {response_id} was not made with both background and stream: "
                "its events are not kept",
                param="stream",
            )
        return _each(events[after + 1 :])

    async def cancel(self, owner: str, response_id: str) -> Json:
        """End a response; one that is over is answered as it is.

        Raises:
            UnknownResponse: the owner has no response of that id.
            ApiError: it was not made in the background.
        """
        running = self._running.get((owner, response_id))
        if running is not None and running.task is not None:
            running.task.cancel()
            await asyncio.wait((running.task,))
            return running.response
        response = await self._stored.response(owner, response_id)
        if not response.get("background"):
            raise ApiError(400, "only responses in the background can be cancelled")
        return response

    async def delete(self, owner: str, response_id: str) -> None:
        """Forget a response; one that is being generated ends first.

        Raises:
            UnknownResponse: the owner has no response of that id.
        """
        if (owner, response_id) in self._running:
            await self.cancel(owner, response_id)
        await self._stored.delete(owner, response_id)

    async def stop(self) -> None:
        """End all of them."""
        self._is_stopping = True
        tasks = [running.task for running in self._running.values() if running.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_last(event: Json) -> bool:
    return "response" in event and event["response"]["status"] not in ("queued", "in_progress")


async def _each(events: list[Json]) -> AsyncGenerator[Json, None]:
    for event in events:
        yield event
