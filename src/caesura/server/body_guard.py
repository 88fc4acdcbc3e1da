"""The middleware behind the gate: no route gets a body that was not looked at before."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from caesura.server.bodies import BodyLimits
from caesura.server.body_scan import MOST_VALUES, BodyScan, slices
from caesura.server.definitions import require_modest
from caesura.server.errors import ApiError, error_response
from caesura.server.sessions.service import Service
from caesura.server.settings import ServerSection

_ON_LOOP_BYTES = 64 * 2**10  # larger bodies are parsed in a thread
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
_BOM = b"\xef\xbb\xbf"
_TOKENS_PER_CONTEXT = 2  # prompts in tokens may have that many values
_MOST_TOKENS = 2_000_000  # where the context is not known
_THREADS = ThreadPoolExecutor(2, "caesura-guard")


class BodyGuard:
    """Reads the body of each request, and refuses it or hands it on.

    JSON is counted while it arrives (`BodyScan`); then what vLLM would take long for, on its event
    loop or to make a grammar of, is refused (`require_modest`). Of files, the size is limited.

    Args:
        app: what serves the requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY:
            await self._app(scope, receive, send)
            return
        headers, service = Headers(scope=scope), _service(scope)
        limits = request_limits(scope)
        try:
            if (length := headers.get("content-length", "")).isdecimal():
                limits.require_size(int(length))
            if headers.get("content-type", "").lower().startswith("multipart/"):
                receive = _limited(receive, limits)
            else:
                scan = BodyScan(_most_values(service))
                body, gone = await _scanned(receive, limits, scan)
                if gone is None:
                    await _require_modest(body, scan, _most_characters(service))
                receive = _again(body, gone, receive)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def request_limits(scope: Scope) -> BodyLimits:
    """The size that any request may have."""
    return BodyLimits(_settings(scope).request_limit, setting="server.request_limit")


def _service(scope: Scope) -> Service | None:
    service = getattr(scope["app"].state, "caesura", None)
    return service if isinstance(service, Service) else None


def _most_values(service: Service | None) -> int:
    if service is None or service.context_tokens is None:
        return _MOST_TOKENS
    return max(MOST_VALUES, _TOKENS_PER_CONTEXT * service.context_tokens)


def _most_characters(service: Service | None) -> int | None:
    return service.body_limits.characters if service is not None else None


def _settings(scope: Scope) -> ServerSection:
    if (service := _service(scope)) is not None:
        return service.settings
    settings = getattr(scope["app"].state, "caesura_settings", None)
    return settings.server if settings is not None else ServerSection()


def _limited(receive: Receive, limits: BodyLimits) -> Receive:
    size_bytes = 0

    async def receive_limited() -> Message:
        nonlocal size_bytes
        message = await receive()
        size_bytes += len(message.get("body", b""))
        limits.require_size(size_bytes)
        return message

    return receive_limited


async def _scanned(
    receive: Receive, limits: BodyLimits, scan: BodyScan
) -> tuple[bytes, Message | None]:
    """The whole body; or what came of it and the message that it ended with instead.

    Raises:
        ApiError: it has too much, or is no text. The rest is not received.
    """
    parts: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts), message
        part = message.get("body", b"")
        size_bytes += len(part)
        limits.require_size(size_bytes)
        for number, piece in enumerate(slices(part)):
            if number:
                await asyncio.sleep(0)  # others come in between
            scan.feed(piece)
        parts.append(part)
        if not message.get("more_body", False):
            scan.end()
            return b"".join(parts), None


async def _require_modest(body: bytes, scan: BodyScan, most_characters: int | None) -> None:
    """See that a body is Unicode, and that vLLM does not take long for it.

    Raises:
        ApiError: it is not, or does.
    """
    if len(body) <= _ON_LOOP_BYTES:
        _check(body, scan, most_characters)
        return
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(_THREADS, _check, body, scan, most_characters)


def _check(body: bytes, scan: BodyScan, most_characters: int | None) -> None:
    try:
        value = json.loads(body.removeprefix(_BOM))  # as vLLM does
    except ValueError:
        if not scan.is_unicode:
            raise _not_unicode("") from None
        return  # not JSON: whatever serves the request says so
    if not scan.is_unicode:
        raise _not_unicode(place_of_half(value) or "")
    require_modest(value, most_characters)


def place_of_half(value: Any) -> str | None:
    """Where a value has half of a surrogate pair, such as `messages.0.content`; None if nowhere."""
    rest: list[tuple[str, Any]] = [("", value)]
    while rest:
        place, part = rest.pop()
        if isinstance(part, str) and not _is_unicode(part):
            return place
        if isinstance(part, dict):
            if not all(map(_is_unicode, part)):
                return place
            rest += [(f"{place}.{key}".lstrip("."), item) for key, item in part.items()]
        elif isinstance(part, list):
            rest += [(f"{place}.{key}".lstrip("."), item) for key, item in enumerate(part)]
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_unicode(place: str) -> ApiError:
    message = "text must be Unicode, without lone surrogates"
    return ApiError(
        400, f"{place}: {message}" if place else message, param=place or None, code="not_unicode"
    )


def _again(body: bytes, gone: Message | None, receive: Receive) -> Receive:
    """Gives what was received once more, and then what follows."""
    messages: list[Message] = [
        {"type": "http.request", "body": body, "more_body": gone is not None}
    ]
    if gone is not None:
        messages.append(gone)

    async def receive_again() -> Message:
        return messages.pop(0) if messages else await receive()

    return receive_again
