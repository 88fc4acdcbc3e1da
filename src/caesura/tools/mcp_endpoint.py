"""Tools of MCP servers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from mcp import MCPError, types
from mcp.shared.dispatcher import ProgressFnT
from pydantic import JsonValue, ValidationError

from caesura.tools.context import CallContext
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.failure import AttemptFailed
from caesura.tools.mcp_content import result_as_text
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import CommonSettings

CallTool = Callable[
    [str, Mapping[str, JsonValue], CallContext, ProgressFnT], Awaitable[types.CallToolResult]
]
_LONGEST_DESCRIPTION = 4096


class McpEndpoint(Endpoint):
    """One tool of a server.

    Args:
        name: its name for the model.
        tool: what the server says about it.
        settings: how its calls are run.
        call_tool: runs it on the server.
        server_slots: the server's own, beside the tool's.
        server: its name in the configuration.

    Raises:
        ValueError: its input schema cannot be used.
    """

    def __init__(
        self,
        name: str,
        tool: types.Tool,
        settings: CommonSettings,
        call_tool: CallTool,
        server_slots: tuple[asyncio.Semaphore, ...],
        server: str,
    ) -> None:
        description = settings.description or tool.description or tool.title or ""
        if len(description) > _LONGEST_DESCRIPTION:
            description = description[:_LONGEST_DESCRIPTION] + " ..."
        schema = ArgumentSchema(tool.input_schema, lenient=True)
        super().__init__(Definition(name, description, schema), settings)
        self.slots = (*self.slots, *server_slots)
        self._name_there = tool.name
        self._call_tool = call_tool
        self._server = server

    @property
    def provider(self) -> str:
        """The server."""
        return f"MCP server {self._server}"

    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        """Call the tool on its server."""

        async def report(progress: float, total: float | None, message: str | None) -> None:
            context.progress(progress / total if total else None, message)

        try:
            result = await self._call_tool(self._name_there, arguments, context, report)
        except MCPError as error:
            raise AttemptFailed(f"the tool's server refuses: {error.message}") from None
        except (ValidationError, RuntimeError) as error:
            raise AttemptFailed(
                f"the tool's server gave an answer that breaks its protocol: {error}"
            ) from None
        text = result_as_text(result)
        if result.is_error:
            raise AttemptFailed(text or "the tool failed and did not say why")
        return text
