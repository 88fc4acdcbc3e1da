"""Sockets behind the gate, in front of a route that writes what the test says, when it says so."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import openai
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from caesura.server.access import Access, current_caller
from caesura.server.clients.lanes import LANE, EngineLane
from caesura.server.gate import close_gate
from caesura.server.keys import Key
from caesura.server.owners import Owners
from caesura.server.socket.connection import SocketLimits
from caesura.server.socket.responses_socket import ResponsesSocket
from server.served import known, listening

Json = dict[str, Any]


@dataclass(eq=False)
class Written:
    """A request that has reached the route, and what the test has it answered.

    Attributes:
        number: of the request.
        body: what it asks.
        owner: whose it is.
        lane: as the engine knows it.
        is_gone: whether its client has gone.
        cuts: the items that it was interrupted for.
        ends_at_once: whether it ends when it is interrupted.
    """

    number: int
    body: Json
    owner: str
    lane: EngineLane | None
    is_gone: asyncio.Event = field(default_factory=asyncio.Event)
    cuts: list[Sequence[Json]] = field(default_factory=list)
    ends_at_once: bool = True
    _events: asyncio.Queue[Json | None] = field(default_factory=asyncio.Queue)
    _refusal: asyncio.Future[tuple[int, Json] | None] = field(default_factory=asyncio.Future)
    _output: list[Json] = field(default_factory=list)
    _sequence: int = 0

    @property
    def id(self) -> str:
        return f"resp_{self.number}"

    @property
    def texts(self) -> list[str]:
        """The items that it begins from, in short."""
        return [_short(item) for item in self.body["input"]]

    def refuse(self, status: int, code: str) -> None:
        """Answer with an error."""
        error = {"message": f"it is {code}", "type": "invalid_request_error", "code": code}
        self._refusal.set_result((status, {"error": error}))

    def begin(self) -> None:
        """Begin the response."""
        self._refusal.set_result(None)
        self._say("response.created", response=self._response("in_progress"))
        self._say("response.in_progress", response=self._response("in_progress"))

    def write(self, text: str) -> None:
        """More of a message; the first piece opens it."""
        if not self._output or self._output[-1]["status"] != "in_progress":
            item = {"id": f"msg_{self.number}_{len(self._output)}", "type": "message"}
            content: list[Json] = [{"type": "output_text", "text": "", "annotations": []}]
            item |= {"role": "assistant", "status": "in_progress", "content": content}
            self._output.append(item)
            self._say_item("response.output_item.added", {**item, "content": []})
        self._output[-1]["content"][0]["text"] += text
        self._say_item("response.output_text.delta", None, delta=text, content_index=0)

    def close(self) -> None:
        """Complete the message."""
        if self._output and self._output[-1]["status"] == "in_progress":
            self._output[-1]["status"] = "completed"
            self._say_item("response.output_item.done", dict(self._output[-1]))

    def call(self, name: str, *, later: bool | None = None, arguments: str = "{}") -> None:
        """A call, complete."""
        self.close()
        item = {"id": f"fc_{self.number}_{len(self._output)}", "type": "function_call"}
        item |= {"call_id": f"call_{name}", "name": name, "arguments": "", "async": later}
        item |= {"status": "in_progress"}
        self._output.append(item)
        self._say_item("response.output_item.added", dict(item))
        item |= {"arguments": arguments, "status": "completed"}
        self._say_item("response.output_item.done", dict(item))

    def end(self, status: str = "completed") -> None:
        """The end of the response."""
        self.close()
        self._say(f"response.{status}", response=self._response(status))
        self._events.put_nowait(None)

    def break_off(self) -> None:
        """The answer ends without an end."""
        self._events.put_nowait(None)

    # As sessions in the engine are interrupted.

    async def interrupt(self, token_ids: Sequence[int] | None) -> None:
        assert self.lane is not None
        self.lane.was_cut = True
        if self.ends_at_once:
            self.end()

    async def following(self, items: Sequence[Json], calls: object) -> list[int]:
        self.cuts.append(items)
        return [1]

    async def answer(self, request: Request) -> Response:
        if (refusal := await self._refusal) is not None:
            return JSONResponse(refusal[1], refusal[0])
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        try:
            while (event := await self._events.get()) is not None:
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
        except asyncio.CancelledError:
            self.is_gone.set()
            raise

    def _response(self, status: str) -> Json:
        usage = None if status == "in_progress" else _usage(len(self.texts), len(self._output))
        return {
            "id": self.id,
            "object": "response",
            "status": status,
            "store": self.body.get("store"),
            "output": [*self._output],
            "usage": usage,
        }

    def _say_item(self, kind: str, item: Json | None, **more: Any) -> None:
        place = {"output_index": len(self._output) - 1, "item_id": self._output[-1]["id"]}
        self._say(kind, **place, **({} if item is None else {"item": item}), **more)

    def _say(self, kind: str, **fields: Any) -> None:
        self._events.put_nowait({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1


def _usage(read: int, written: int) -> Json:
    return {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}


def _short(item: Json) -> str:
    match item.get("type", "message"):
        case "message":
            content = item["content"]
            text = content if isinstance(content, str) else content[0]["text"]
            return f"{item['role']}: {text}"
        case "function_call":
            return f"calls {item['name']}"
    return f"{item['call_id']} = {item['output']}"


@dataclass(eq=False)
class Route:
    """What stands in place of vLLM's route.

    Attributes:
        url: of the server.
        app: the server.
        requests: that have come so far.
    """

    url: str = ""
    app: FastAPI = field(default_factory=FastAPI)
    requests: list[Written] = field(default_factory=list)
    in_engine: bool = True
    _coming: asyncio.Queue[Written] = field(default_factory=asyncio.Queue)

    def client(self, key: str = "none") -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    async def next(self) -> Written:
        """The next request that comes."""
        async with asyncio.timeout(20):
            return await self._coming.get()

    async def begun(self) -> Written:
        """The same; its response has begun."""
        written = await self.next()
        written.begin()
        return written

    async def serve(self, request: Request) -> Response:
        caller = current_caller()
        assert caller is not None
        lane = request.scope.get(LANE)
        body = await request.json()
        written = Written(len(self.requests) + 1, body, caller.owner, lane)
        if lane is not None:
            lane.begin()
            if self.in_engine:
                lane.session, lane.following = Interruptible(written), written.following
        self.requests.append(written)
        self._coming.put_nowait(written)
        return await written.answer(request)


@dataclass(eq=False)
class Interruptible:
    """A session that the lane knows."""

    written: Written

    async def interrupt(self, token_ids: Sequence[int] | None) -> None:
        await self.written.interrupt(token_ids)

    async def close(self) -> None:
        pass


@asynccontextmanager
async def sockets(
    *keys: str | Key, limits: SocketLimits | None = None, in_engine: bool = True
) -> AsyncIterator[Route]:
    """A server.

    Args:
        keys: API keys; with none everybody may use it.
        limits: of its sockets.
        in_engine: whether what is written can be interrupted.
    """
    route = Route(in_engine=in_engine)
    app = route.app
    app.state.caesura_owners = Owners(bool(keys), b"a secret")
    app.post("/v1/responses", response_model=None)(route.serve)
    app.add_middleware(ResponsesSocket, limits=limits)
    close_gate(app, Access(known(*keys)))
    async with listening(app) as route.url:
        yield route
