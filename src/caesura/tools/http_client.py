"""Requests that stay with their server, and answers that are read no further than is wanted."""

import zlib
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from caesura.tools.failure import AttemptFailed

_MAX_REDIRECTS = 5
_ERROR_BODY_BYTES = 2048
_CONNECT_SECONDS = 10.0
_TEXT_TYPES = (
    "text/",
    "application/javascript",
    "application/json",
    "application/x-ndjson",
    "application/x-www-form-urlencoded",
    "application/xml",
    "application/yaml",
)
_TEXT_SUFFIXES = ("+json", "+xml")
_NEVER_TEXT = ("audio/", "font/", "image/", "video/")
_UNPACKED = ("gzip", "x-gzip", "deflate")
_GZIP_OR_ZLIB = 47
_GATEWAY = frozenset({httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT})


class HttpClient:
    """Sends requests for tools.

    Args:
        whose: the server, for messages.
    """

    def __init__(self, whose: str) -> None:
        self._whose = whose
        # The only limit on time is that on connecting: calls have their own.
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        # What a server wants to remember of one session is no other session's business.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx.AsyncClient(timeout=timeout, cookies=no_cookies)

    async def text(self, request: httpx.Request, max_bytes: int) -> str:
        """Send a request; the text of the answer, of which few more than `max_bytes` are read.

        Raises:
            AttemptFailed: the server cannot be reached, answers with a failure or with what is
                not read, or redirects to another server.
        """
        try:
            async with AsyncExitStack() as opened:
                response = await self._send(request, opened)
                if response.is_success:
                    return await self._text(response, max_bytes)
                body = (await self._text(response, _ERROR_BODY_BYTES)).strip()
                message = f"{self._whose} answered with status {response.status_code}"
                raise AttemptFailed(
                    f"{message}: {body}" if body else message,
                    error_type="http_status",
                    transient=response.status_code == httpx.codes.TOO_MANY_REQUESTS
                    or response.is_server_error,
                    retry_after_seconds=_retry_after_seconds(response),
                    is_uncertain=response.status_code in _GATEWAY,
                )
        except (httpx.HTTPError, zlib.error) as error:
            raise AttemptFailed(
                f"{self._whose} cannot be reached ({type(error).__name__})",
                transient=isinstance(error, httpx.TransportError),
                is_uncertain=not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout),
            ) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _send(self, request: httpx.Request, opened: AsyncExitStack) -> httpx.Response:
        """Send, following redirects that stay with the server."""
        first = request.url
        # Servers may compress all the same.
        request.headers["accept-encoding"] = "identity"
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._client.send(request, stream=True)
            opened.push_async_callback(response.aclose)
            if response.next_request is None:
                return response
            request = response.next_request
            if not stays(first, request.url):
                target = request.url.copy_with(path="/", query=None, fragment=None, userinfo=b"")
                raise AttemptFailed(
                    f"{self._whose} redirects to another one ({target}), which is not followed"
                )
        raise AttemptFailed(f"{self._whose} redirects more than {_MAX_REDIRECTS} times")

    async def _text(self, response: httpx.Response, max_bytes: int) -> str:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "", *_UNPACKED):
            raise AttemptFailed(
                f"{self._whose} sent a compressed answer ({encoding}), which is not read"
            )
        unpack = zlib.decompressobj(_GZIP_OR_ZLIB) if encoding in _UNPACKED else None
        body = bytearray()
        async for chunk in response.aiter_raw():
            # Bounded: a few bytes can stand for any number.
            body += unpack.decompress(chunk, max_bytes + 1 - len(body)) if unpack else chunk
            if len(body) > max_bytes:
                break
        media_type = (
            response.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
        )
        if not _is_text(media_type, body):
            size = f"{len(body)} bytes" if len(body) <= max_bytes else f"over {max_bytes} bytes"
            return f"[{media_type}, {size}]" if body else ""
        try:
            return body.decode(response.charset_encoding or "utf-8", errors="replace")
        except (LookupError, UnicodeError):  # no encoding of text, or one that cannot replace
            return body.decode(errors="replace")


def stays(first: httpx.URL, then: httpx.URL) -> bool:
    """Whether a redirect leads to the same server, or its usual change from http to https."""
    if (first.scheme, first.host, first.port) == (then.scheme, then.host, then.port):
        return True
    is_upgrade = (first.scheme, then.scheme) == ("http", "https")
    return is_upgrade and first.host == then.host and first.port is None and then.port is None


def _is_text(media_type: str, body: bytes | bytearray) -> bool:
    if media_type.startswith(_TEXT_TYPES) or media_type.endswith(_TEXT_SUFFIXES):
        return True
    if media_type.startswith(_NEVER_TEXT) or b"\0" in body:
        return False
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and error.start > 0
    return True


def _retry_after_seconds(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
