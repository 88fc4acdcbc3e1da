"""A connection to an MCP server that comes back."""

import asyncio
import logging
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx2
from mcp import Client, MCPError, StdioServerParameters, stdio_client, types
from mcp.client import IncomingMessage
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared.dispatcher import ProgressFnT
from pydantic import JsonValue

from caesura.tools import mcp_relay
from caesura.tools.context import CallContext
from caesura.tools.failure import AttemptFailed
from caesura.tools.foreign_log import log_foreign, logged_stream
from caesura.tools.mcp_elicitation import Elicitation
from caesura.tools.mcp_endpoint import McpEndpoint
from caesura.tools.mcp_tools import McpTools, Names
from caesura.tools.mcp_transport import limit_message, watched
from caesura.tools.settings import CommonSettings, McpServerSettings

if TYPE_CHECKING:  # the SDK does not export this name
    from mcp.client._transport import TransportStreams

_LOG = logging.getLogger(__name__)
_FIRST_BACKOFF_SECONDS = 0.2
_LONGEST_BACKOFF_SECONDS = 30.0
# A connection that held for so long is taken for sound: the backoff starts again.
_SOUND_SECONDS = 10.0
_LISTING_SECONDS = 2.0  # lists are asked for no more often
_LATE_SECONDS = 10.0  # how long the start waits for tools that the settings name
_MAX_PAGES = 100
_SESSION_TERMINATED = "Session terminated"


class McpServer:
    """Connects to a server, keeps the list of its tools, and connects again when it is lost.

    Args:
        name: its name in the configuration.
        settings: its settings.
        names: where each name of a tool comes from.
        secrets: what is kept out of the log.

    Attributes:
        name: its name in the configuration.
        tools: what it offers.
        wait_seconds: how long a call waits for a server that is away.
    """

    def __init__(
        self, name: str, settings: McpServerSettings, names: Names, secrets: frozenset[str]
    ) -> None:
        self.name = name
        self.wait_seconds = settings.connect_timeout_seconds
        self.tools = McpTools(name, settings, names, self._endpoint)
        self._settings = settings
        self._secrets = secrets
        limit = settings.max_concurrency
        self._slots = (asyncio.Semaphore(limit),) if limit else ()
        self._elicitation = Elicitation()
        self._client: Client | None = None
        self._connected = asyncio.Event()
        self._ended = asyncio.Event()  # the connection is lost, or is to be closed
        self._to_list = asyncio.Event()
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and list the tools, or go on trying.

        Raises:
            ValueError: it cannot be connected to, and is required or cannot be started at all.
        """
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A task of its own: the client must be closed by the task that opened it.
        self._task = asyncio.create_task(self._run(first), name=f"mcp {self.name}")
        try:
            await first
        except Exception as error:
            cause = _cause(error)
            no_program = self._settings.command is not None and isinstance(cause, OSError)
            if self._settings.required or no_program:
                raise ValueError(_reason(cause)) from None
            self._log(f"is not there ({_reason(cause)}): its tools are offered once it is")
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_LATE_SECONDS, self.wait_seconds)):
                while self.tools.missing() and self._tells_changes():
                    await self.tools.next_list()

    async def close(self) -> None:
        """Disconnect, and end the process if it is one."""
        self._is_closing = True
        self._ended.set()
        if self._task is not None:
            if self._client is None:
                self._task.cancel()  # it may be connecting, which can take long
            await asyncio.gather(self._task, return_exceptions=True)

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, JsonValue],
        context: CallContext,
        report: ProgressFnT,
    ) -> types.CallToolResult:
        """Run a tool.

        Raises:
            AttemptFailed: the server is away, or went away during the call.
            MCPError: the server refuses.
        """
        client = await self._connected_client()
        try:
            with self._elicitation.during(context):
                return await client.call_tool(name, dict(arguments), progress_callback=report)
        except MCPError as error:
            if not _means_lost(error):
                raise
            if client is self._client:
                self._disconnected()
                self._ended.set()
            raise AttemptFailed(
                "the connection to the tool's server was lost during the call",
                error_type="connection_lost",
                transient=True,
                is_uncertain=True,
            ) from None

    async def _connected_client(self) -> Client:
        try:
            async with asyncio.timeout(self.wait_seconds):
                await self._connected.wait()
        except TimeoutError:
            raise AttemptFailed(
                "the tool's server is not running; it is being connected again", transient=True
            ) from None
        if self._client is None:
            raise AttemptFailed("the tool's server is not running", transient=True)
        return self._client

    async def _run(self, first: asyncio.Future[None]) -> None:
        backoff_seconds = _FIRST_BACKOFF_SECONDS
        while not self._is_closing:
            started_seconds = time.monotonic()
            try:
                await self._stay_connected(first)
            except Exception as error:  # whatever ends a connection, the answer is a new one
                if first.done():
                    self._log(_reason(_cause(error)))
                else:
                    first.set_exception(error)
            if time.monotonic() - started_seconds >= _SOUND_SECONDS:
                backoff_seconds = _FIRST_BACKOFF_SECONDS
            if not self._is_closing:
                self._log(f"is lost; it is connected again in {backoff_seconds:g} s")
                with suppress(TimeoutError):
                    async with asyncio.timeout(backoff_seconds):
                        await self._closing()
            backoff_seconds = min(_LONGEST_BACKOFF_SECONDS, 2 * backoff_seconds)

    async def _closing(self) -> None:
        while not self._is_closing:
            self._ended.clear()
            await self._ended.wait()

    async def _stay_connected(self, first: asyncio.Future[None]) -> None:
        """Connect, and return when the connection is lost or to be closed."""
        self._ended.clear()
        self._to_list.clear()
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
                client = await stack.enter_async_context(self._new_client())
                # The SDK would check results with Python's `re`, in the event loop.
                setattr(client.session, "validate_tool_result", _unchecked)  # noqa: B010
                self.tools.update(await _listed(client))
            self._client = client
            stack.callback(self._disconnected)
            self._connected.set()
            if not first.done():
                first.set_result(None)
            if self._tells_changes():
                await stack.enter_async_context(_meanwhile(self._listen(client)))
            await stack.enter_async_context(_meanwhile(self._keep_listing(client)))
            if not self._is_closing:
                await self._ended.wait()

    def _disconnected(self) -> None:
        """New calls wait for the next connection."""
        self._client = None
        self._connected.clear()

    async def _keep_listing(self, client: Client) -> None:
        """Ask for the tools when they change. While a server does not answer, the last list and
        the calls that are under way stay."""
        while True:
            await self._to_list.wait()
            self._to_list.clear()
            try:
                async with asyncio.timeout(self._settings.connect_timeout_seconds):
                    self.tools.update(await _listed(client))
            except (MCPError, TimeoutError, ValueError, RuntimeError) as error:
                self._log(f"does not list its tools: {_reason(_cause(error))}")
                self._to_list.set()
            await asyncio.sleep(_LISTING_SECONDS)

    def _tells_changes(self) -> bool:
        capabilities = self._client.server_capabilities.tools if self._client else None
        return bool(capabilities and capabilities.list_changed)

    def _new_client(self) -> Client:
        return Client(
            watched(self._transport(), self._ended.set),
            message_handler=self._received,
            elicitation_callback=self._elicitation.answer,
            cache=None,
        )

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator["TransportStreams"]:
        settings = self._settings
        if settings.command is not None:
            env = {name: value.get_secret_value() for name, value in settings.env.items()}
            if shutil.which(settings.command) is None:  # the relay would start without it
                raise FileNotFoundError(f"there is no program {settings.command}")
            relay = ["-I", mcp_relay.__file__, str(settings.max_message_bytes)]
            parameters = StdioServerParameters(
                command=sys.executable,
                args=[*relay, settings.command, *settings.args],
                env=env,
                encoding_error_handler="replace",
            )
            with logged_stream(_LOG, f"MCP server {self.name}", self._secrets) as errors:
                async with stdio_client(parameters, errors) as streams:
                    yield streams
        else:
            headers = {key: value.get_secret_value() for key, value in settings.headers.items()}
            # No limit on reading: calls have their own.
            timeout = httpx2.Timeout(settings.connect_timeout_seconds, read=None)
            limit = partial(limit_message, most_bytes=settings.max_message_bytes)
            hooks: dict[str, list[Callable[..., Any]]] = {"response": [limit]}
            async with (
                httpx2.AsyncClient(
                    headers=headers, timeout=timeout, event_hooks=hooks
                ) as http_client,
                streamable_http_client(
                    settings.url or "",
                    http_client=http_client,
                    max_sse_event_size=settings.max_message_bytes,
                ) as streams,
            ):
                yield streams

    def list_again(self) -> None:
        """Ask for the list of tools soon."""
        self._to_list.set()

    async def _received(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.list_again()

    async def _listen(self, client: Client) -> None:
        """Listen for changes of the tools, where the protocol's version has it."""
        try:
            async with client.listen(tools_list_changed=True) as changes:
                self.list_again()  # for a change between the first listing and now
                async for _ in changes:
                    self.list_again()
        except ListenNotSupportedError:
            pass  # older versions of the protocol notify without being asked
        except (MCPError, SubscriptionLost, TimeoutError):
            _LOG.debug("MCP server %s does not tell changes of its tools", self.name)

    def _endpoint(self, name: str, tool: types.Tool, settings: CommonSettings) -> McpEndpoint:
        return McpEndpoint(name, tool, settings, self.call_tool, self._slots, self.name)

    def _log(self, message: str) -> None:
        log_foreign(_LOG, f"MCP server {self.name} {message}", self._secrets)


async def _listed(client: Client) -> list[types.Tool]:
    tools: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return tools


@asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _unchecked(name: str, result: types.CallToolResult) -> None:
    """Leave a result as it is."""


def _means_lost(error: MCPError) -> bool:
    return error.code == types.CONNECTION_CLOSED or error.message == _SESSION_TERMINATED


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return f"{type(error).__name__}: {error}"
