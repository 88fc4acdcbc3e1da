"""A connection to an MCP server that comes back."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import httpx2
from mcp import Client, MCPError, StdioServerParameters, stdio_client, types
from mcp.client import IncomingMessage
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared.dispatcher import ProgressFnT
from pydantic import JsonValue

from caesura.tools.context import CallContext
from caesura.tools.endpoint import Endpoint
from caesura.tools.failure import AttemptFailed
from caesura.tools.mcp_elicitation import Elicitation
from caesura.tools.mcp_endpoint import McpEndpoint
from caesura.tools.mcp_transport import watched
from caesura.tools.settings import TOOL_NAME, CommonSettings, McpServerSettings

if TYPE_CHECKING:  # the SDK does not export this name
    from mcp.client._transport import TransportStreams

_LOG = logging.getLogger(__name__)
_FIRST_BACKOFF_SECONDS = 0.2
_LONGEST_BACKOFF_SECONDS = 30.0
# A connection that held for so long is taken for sound: the backoff starts again.
_SOUND_SECONDS = 10.0
_MAX_PAGES = 100
_SESSION_TERMINATED = "Session terminated"


class McpServer:
    """Connects to a server, keeps the list of its tools, and connects again when it is lost.

    Attributes:
        name: its name in the configuration.
        endpoints: its tools by their names for the model; changed in place.
        names_there: the names that all its tools have there.

    Args:
        name: its name in the configuration.
        settings: its settings.
    """

    def __init__(self, name: str, settings: McpServerSettings) -> None:
        self.name = name
        self.endpoints: dict[str, Endpoint] = {}
        self.names_there: frozenset[str] = frozenset()
        self._settings = settings
        limit = settings.max_concurrency
        self._slots = (asyncio.Semaphore(limit),) if limit else ()
        self._elicitation = Elicitation()
        self._client: Client | None = None
        self._connected = asyncio.Event()
        self._wake = asyncio.Event()
        self._is_lost = False
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and list the tools.

        Raises:
            ValueError: it cannot be connected to, or its tools cannot be offered.
        """
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A task of its own: the client must be closed by the task that opened it.
        self._task = asyncio.create_task(self._run(first), name=f"mcp {self.name}")
        await first

    async def close(self) -> None:
        """Disconnect, and end the process if it is one."""
        self._is_closing = True
        self._wake.set()
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
        """Run a tool; see `McpConnection`."""
        client = await self._connected_client()
        try:
            with self._elicitation.during(context):
                return await client.call_tool(name, dict(arguments), progress_callback=report)
        except MCPError as error:
            if not _means_lost(error):
                raise
            self._lose(client)
            raise AttemptFailed(
                "the connection to the tool's server was lost during the call; it may or may "
                "not have had its effects",
                error_type="connection_lost",
                transient=True,
            ) from None

    async def _connected_client(self) -> Client:
        try:
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
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
                if not first.done():
                    first.set_exception(ValueError(_reason(error)))
                    return
                _LOG.warning("MCP server %s: %s", self.name, _reason(error))
            if time.monotonic() - started_seconds >= _SOUND_SECONDS:
                backoff_seconds = _FIRST_BACKOFF_SECONDS
            if not self._is_closing:
                _LOG.warning(
                    "MCP server %s is lost; connecting again in %g s", self.name, backoff_seconds
                )
                await self._pause(backoff_seconds)
            backoff_seconds = min(_LONGEST_BACKOFF_SECONDS, 2 * backoff_seconds)

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._is_closing:
                    await self._wake.wait()
                    self._wake.clear()

    async def _stay_connected(self, first: asyncio.Future[None]) -> None:
        """Connect, and return when the connection is lost or to be closed."""
        self._is_lost = False
        self._wake.clear()
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
                client = await stack.enter_async_context(self._new_client())
                await self._list_tools(client)
            self._client = client
            stack.callback(self._disconnected)
            self._connected.set()
            if not first.done():
                first.set_result(None)
            await stack.enter_async_context(self._listening(client))
            await self._until_lost(client)

    def _disconnected(self) -> None:
        """New calls wait for the next connection."""
        self._client = None
        self._connected.clear()

    async def _until_lost(self, client: Client) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._is_lost or self._is_closing:
                return
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
                await self._list_tools(client)

    def _new_client(self) -> Client:
        return Client(
            watched(self._transport(), self._end_of_stream),
            message_handler=self._received,
            elicitation_callback=self._elicitation.answer,
            cache=None,
        )

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator["TransportStreams"]:
        settings = self._settings
        if settings.command is not None:
            env = {name: value.get_secret_value() for name, value in settings.env.items()}
            parameters = StdioServerParameters(
                command=settings.command,
                args=settings.args,
                env=env,
                encoding_error_handler="replace",
            )
            async with stdio_client(parameters) as streams:
                yield streams
        else:
            headers = {key: value.get_secret_value() for key, value in settings.headers.items()}
            # No limit on reading: calls have their own.
            timeout = httpx2.Timeout(settings.connect_timeout_seconds, read=None)
            async with (
                httpx2.AsyncClient(headers=headers, timeout=timeout) as http_client,
                streamable_http_client(settings.url or "", http_client=http_client) as streams,
            ):
                yield streams

    def _end_of_stream(self) -> None:
        self._is_lost = True
        self._wake.set()

    def _lose(self, client: Client) -> None:
        if client is self._client:
            self._disconnected()
            self._end_of_stream()

    async def _received(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._wake.set()

    @asynccontextmanager
    async def _listening(self, client: Client) -> AsyncIterator[None]:
        """Listen for changes of the tools, where the protocol's version has it."""
        tools = client.server_capabilities.tools
        if tools is None or not tools.list_changed:
            yield
            return
        listener = asyncio.create_task(self._listen(client))
        try:
            yield
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _listen(self, client: Client) -> None:
        try:
            async with client.listen(tools_list_changed=True) as changes:
                self._wake.set()  # for a change between the first listing and now
                async for _ in changes:
                    self._wake.set()
        except ListenNotSupportedError:
            pass  # older versions of the protocol notify without being asked
        except (MCPError, SubscriptionLost, TimeoutError):
            _LOG.debug("MCP server %s does not tell changes of its tools", self.name)

    async def _list_tools(self, client: Client) -> None:
        tools: list[types.Tool] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        self.names_there = frozenset(tool.name for tool in tools)
        endpoints = self._offered(tools)
        self.endpoints.clear()
        self.endpoints.update(endpoints)

    def _offered(self, tools: list[types.Tool]) -> dict[str, Endpoint]:
        """Endpoints of the tools that are wanted and can be offered; others are logged."""
        wanted = self._settings.tools
        prefix = f"{self.name}_" if self._settings.prefix is None else self._settings.prefix
        endpoints: dict[str, Endpoint] = {}
        for tool in tools:
            if wanted is not None and tool.name not in wanted:
                continue
            name = prefix + "".join(c if TOOL_NAME.fullmatch(c) else "_" for c in tool.name)
            if TOOL_NAME.fullmatch(name) is None:
                _LOG.warning("MCP server %s: the name %r is too long", self.name, name)
            elif name in endpoints:
                _LOG.warning("MCP server %s: it has two tools %r", self.name, name)
            else:
                settings = self._settings.settings.get(tool.name, CommonSettings())
                try:
                    endpoints[name] = McpEndpoint(
                        name, tool, settings, self, self._slots, self.name
                    )
                except ValueError as error:
                    _LOG.warning("MCP server %s: tool %r: %s", self.name, tool.name, error)
        return endpoints


def _means_lost(error: MCPError) -> bool:
    return error.code == types.CONNECTION_CLOSED or error.message == _SESSION_TERMINATED


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return f"{type(error).__name__}: {error}"
