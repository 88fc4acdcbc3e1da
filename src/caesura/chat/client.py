"""The server's HTTP API of sessions, typed."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx
from httpx_sse import ServerSentEvent, SSEError, aconnect_sse
from pydantic import JsonValue, TypeAdapter, ValidationError

from caesura.chat.records import (
    ApprovalView,
    EventKind,
    GivenAnswer,
    SessionEvent,
    SessionView,
)
from caesura.errors import CaesuraError

Form = TypeVar("Form")

# Longer than the server's silences: it sends a comment every 15 s unless told otherwise.
_READ_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_FIRST_RETRY_SECONDS = 0.2
_LONGEST_RETRY_SECONDS = 5.0
_SERVER_ERROR = 500

_SESSION = TypeAdapter(SessionView)
_APPROVAL = TypeAdapter(ApprovalView)
_DATA = TypeAdapter(dict[str, JsonValue])


class Unreachable(CaesuraError):
    """There is no server, or the connection to it broke."""


class Refused(CaesuraError):
    """The server has answered with an error.

    Args:
        status: of HTTP.
        message: what the server says.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} (status {status})")
        self.status = status


class SessionsClient:
    """One owner's sessions at a server; a context manager.

    Args:
        url: the server, such as http://localhost:8000; `/v1` after it is understood too.
        api_key: of the server, if it asks for one.

    Raises:
        ValueError: the URL is none of HTTP.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"{url} is not an http(s) URL, such as http://localhost:8000")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(
            base_url=f"{self.url}/v1",
            headers=headers,
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def models(self) -> list[str]:
        """Names of the models that are served."""
        body = await self._call("GET", "models")
        return [str(model["id"]) for model in body["data"]]

    async def create(
        self,
        text: str,
        *,
        tools: list[str] | Literal["all"] | None = None,
        keep_open: bool = True,
        function_calling: str | None = None,
    ) -> SessionView:
        """A new session that begins with a message of its user.

        Args:
            text: the message.
            tools: names of the tools that the model may call; None for the server's default.
            keep_open: after an answer it waits for its user, and does not end.
            function_calling: sync, sync_parallel or async; None for the server's default.
        """
        messages = [{"role": "user", "content": text}]
        spec: dict[str, object] = {"messages": messages, "tools": tools, "keep_open": keep_open}
        if function_calling is not None:
            spec["function_calling"] = function_calling
        return _read(_SESSION, await self._call("POST", "sessions", spec))

    async def session(self, session_id: str) -> SessionView:
        """One session."""
        return _read(_SESSION, await self._call("GET", _session_path(session_id)))

    async def sessions(self, limit: int = 20) -> list[SessionView]:
        """The newest sessions first."""
        body = await self._call("GET", f"sessions?limit={limit}")
        return [_read(_SESSION, item) for item in body["data"]]

    async def say(self, session_id: str, text: str) -> SessionView:
        """A message of the user: it steers what is generated, or is the next message."""
        return await self._act(session_id, "messages", {"content": text})

    async def pause(self, session_id: str) -> SessionView:
        """Stop a session where it is."""
        return await self._act(session_id, "pause")

    async def resume(self, session_id: str) -> SessionView:
        """Let a paused session go on."""
        return await self._act(session_id, "resume")

    async def cancel(self, session_id: str) -> SessionView:
        """End a session."""
        return await self._act(session_id, "cancel")

    async def transcript(self, session_id: str) -> list[dict[str, Any]]:
        """The messages, calls and results of a session, in order."""
        body = await self._call("GET", f"{_session_path(session_id)}/transcript")
        return list(body["items"])

    async def approvals(self) -> list[ApprovalView]:
        """What waits for a human that this key may answer, the oldest first."""
        body = await self._call("GET", "approvals?state=waiting&limit=100")
        return [_read(_APPROVAL, item) for item in body["data"]]

    async def approval(self, approval_id: str) -> ApprovalView:
        """One question to a human."""
        return _read(_APPROVAL, await self._call("GET", f"approvals/{quote(approval_id)}"))

    async def answer(self, approval_id: str, answer: GivenAnswer) -> ApprovalView:
        """Answer a question."""
        body = answer.model_dump(exclude_none=True)
        return _read(_APPROVAL, await self._call("POST", f"approvals/{quote(approval_id)}", body))

    async def last_event(self, session_id: str) -> int:
        """The number of the latest event of a session; 0 if there is none."""
        last, has_more = 0, True
        while has_more:
            path = f"{_session_path(session_id)}/events?stream=false&after={last}"
            body = await self._call("GET", path)
            last = max((int(event["id"]) for event in body["data"]), default=last)
            has_more = bool(body["has_more"])
        return last

    async def events(
        self,
        session_id: str,
        after: int = 0,
        *,
        on_connection: Callable[[bool], object] = lambda is_there: None,
        give_up_seconds: float | None = None,
    ) -> AsyncGenerator[SessionEvent, None]:
        """What happened in a session and what happens, until it has ended.

        A connection that breaks is made again, and goes on after the last event.

        Args:
            session_id: the session.
            after: only events with a higher number.
            on_connection: called with False when the connection breaks, and with True when it is
                there again.
            give_up_seconds: how long a server that is gone is waited for; None for ever.

        Raises:
            Refused: the server does not give the events.
            Unreachable: it was waited for long enough.
        """
        loop = asyncio.get_running_loop()
        lost_at: float | None = None
        retry_seconds = _FIRST_RETRY_SECONDS

        def opened() -> None:
            nonlocal lost_at
            if lost_at is not None:
                lost_at = None
                on_connection(True)

        while True:
            try:
                async with aclosing(self._stream(session_id, after, opened)) as stream:
                    async for event in stream:
                        after, retry_seconds = event.number, _FIRST_RETRY_SECONDS
                        yield event
                        if event.kind is EventKind.ENDED:
                            return
                problem: CaesuraError = Unreachable(f"{self.url} has closed the connection")
            except (Unreachable, Refused) as error:
                if isinstance(error, Refused) and error.status < _SERVER_ERROR:
                    raise
                problem = error
            if lost_at is None:
                lost_at = loop.time()
                on_connection(False)
            if give_up_seconds is not None and loop.time() - lost_at > give_up_seconds:
                raise problem
            await asyncio.sleep(retry_seconds)
            retry_seconds = min(2 * retry_seconds, _LONGEST_RETRY_SECONDS)

    async def _stream(
        self, session_id: str, after: int, opened: Callable[[], None]
    ) -> AsyncGenerator[SessionEvent, None]:
        path, headers = f"{_session_path(session_id)}/events", {"Last-Event-ID": str(after)}
        try:
            async with aconnect_sse(self._http, "GET", path, headers=headers) as source:
                if source.response.is_error:
                    await source.response.aread()
                _require_success(source.response)
                opened()
                async with aclosing(source.aiter_sse()) as frames:
                    async for frame in frames:
                        event = _event(frame)
                        if event is not None:
                            yield event
        except SSEError as error:
            raise Refused(200, f"not a Caesura server: {error}") from error
        except httpx.TransportError as error:
            raise _unreachable(self.url, error) from error

    async def _act(
        self, session_id: str, action: str, body: Mapping[str, JsonValue] | None = None
    ) -> SessionView:
        answer = await self._call("POST", f"{_session_path(session_id)}/{action}", body)
        return _read(_SESSION, answer)

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON that the server answers.

        Raises:
            Refused: it answers with an error.
            Unreachable: it does not answer. What was asked for may have been done.
        """
        try:
            response = await self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise _unreachable(self.url, error) from error
        _require_success(response)
        try:
            return response.json()
        except ValueError as error:
            raise Refused(response.status_code, "the answer is not JSON") from error


def _session_path(session_id: str) -> str:
    return f"sessions/{quote(session_id, safe='')}"


def _read(form: TypeAdapter[Form], body: object) -> Form:
    try:
        return form.validate_python(body)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise Refused(200, f"not a Caesura server: the response has no {where}") from error


def _event(frame: ServerSentEvent) -> SessionEvent | None:
    """The event of a frame; None for kinds that only a newer client knows."""
    try:
        kind = EventKind(frame.event)
    except ValueError:
        return None
    try:
        return SessionEvent(number=int(frame.id), kind=kind, data=_DATA.validate_json(frame.data))
    except ValueError as error:
        raise Refused(200, f"event {frame.id} of the server cannot be read: {error}") from error


def _require_success(response: httpx.Response) -> None:
    if not response.is_error:
        return
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = response.reason_phrase or "an error"
    raise Refused(response.status_code, message)


def _unreachable(url: str, error: httpx.TransportError) -> Unreachable:
    reason = str(error) or type(error).__name__
    return Unreachable(f"no answer from {url}: {reason}. Is `caesura serve` running there?")
