"""Tools behind HTTP."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from pydantic import JsonValue

from caesura.tools.context import CallContext
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.failure import AttemptFailed
from caesura.tools.http_request import RequestTemplate
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import HttpTool

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


class HttpEndpoint(Endpoint):
    """Sends a request and returns the answer's text.

    Args:
        name: the tool's name.
        settings: its settings.
        schema: of its arguments.
        template: how they become a request.
    """

    def __init__(
        self,
        name: str,
        settings: HttpTool,
        schema: ArgumentSchema,
        template: RequestTemplate,
    ) -> None:
        super().__init__(Definition(name, settings.description or "", schema), settings)
        self._template = template
        self._client = http_client()

    @property
    def provider(self) -> str:
        """The method and the host, without a password."""
        scheme, _, host = self._template.origin.partition("://")
        return f"{self._template.method} {scheme}://{host.rpartition('@')[2]}"

    def check(self, arguments: Mapping[str, JsonValue]) -> None:
        """Check that the arguments fit and that a request can be made of them."""
        super().check(arguments)
        self._template.request(arguments)

    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        """Send the request."""
        try:
            async with AsyncExitStack() as opened:
                response = await self._send(self._template.request(arguments), opened)
                if response.is_success:
                    return await bounded_text(response, self.settings.max_result_bytes)
                body = await bounded_text(response, _ERROR_BODY_BYTES)
                retry_after = response.headers.get("retry-after", "")
                raise status_failure(response.status_code, retry_after, body)
        except httpx.HTTPError as error:
            raise AttemptFailed(
                f"the tool's server cannot be reached ({type(error).__name__})",
                transient=isinstance(error, httpx.TransportError),
            ) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _send(self, request: httpx.Request, opened: AsyncExitStack) -> httpx.Response:
        """Send, following redirects that stay with the server."""
        origin = _origin(request.url)
        # What is decoded while it is read cannot be bounded.
        request.headers["accept-encoding"] = "identity"
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._client.send(request, stream=True)
            opened.push_async_callback(response.aclose)
            if response.next_request is None:
                return response
            request = response.next_request
            if _origin(request.url) != origin:
                raise AttemptFailed(
                    f"the tool's server redirects to another one ({request.url.host}), "
                    "which is not followed"
                )
        raise AttemptFailed(f"the tool's server redirects more than {_MAX_REDIRECTS} times")


def http_client() -> httpx.AsyncClient:
    """A client that follows no redirects and remembers nothing."""
    # The only limit on time is that on connecting: calls have their own.
    timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
    # What a server wants to remember of one session is no other session's business.
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(timeout=timeout, cookies=no_cookies)


def status_failure(status: int, retry_after: str, body: str) -> AttemptFailed:
    """The failure that a status stands for.

    Args:
        status: the HTTP status, no success.
        retry_after: the header `Retry-After`, empty if there is none.
        body: what the response says, bounded.
    """
    message = f"the tool's server answered with status {status}"
    return AttemptFailed(
        f"{message}: {body.strip()}" if body.strip() else message,
        error_type="http_status",
        transient=status == httpx.codes.TOO_MANY_REQUESTS or status >= 500,
        retry_after_seconds=_retry_after_seconds(retry_after),
    )


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _retry_after_seconds(value: str) -> float | None:
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


async def bounded_text(response: httpx.Response, max_bytes: int) -> str:
    """The body as text; a few bytes more than `max_bytes` of it are read at most."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise AttemptFailed("the tool's server sent a compressed answer, which is not accepted")
    media_type = (
        response.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
    )
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            break
    if not media_type.startswith(_TEXT_TYPES) and not media_type.endswith(_TEXT_SUFFIXES):
        size = f"{len(body)} bytes" if len(body) <= max_bytes else f"over {max_bytes} bytes"
        return f"[{media_type}, {size}]" if body else ""
    try:
        return body.decode(response.charset_encoding or "utf-8", errors="replace")
    except (LookupError, UnicodeError):  # no encoding of text, or one that cannot replace
        return body.decode(errors="replace")
