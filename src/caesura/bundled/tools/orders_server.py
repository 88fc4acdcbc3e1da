"""Two tools of an MCP server, over stdio: who carries an order, and how far it is."""

import asyncio

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from caesura.bundled.world import UnknownCode, World

server = MCPServer("orders")
world = World.of_environment()


@server.tool()
async def carrier(order: str) -> str:
    """The contact of the company that ships an order, such as 773412."""
    return await _look_up("carrier", order)


@server.tool()
async def status(order: str) -> str:
    """How far an order is, such as 773412."""
    return await _look_up("status", order)


async def _look_up(tool: str, order: str) -> str:
    try:
        value = world.value(tool, order)
    except UnknownCode as error:
        raise ToolError(str(error)) from None
    await asyncio.sleep(world.seconds(tool, order))
    return value


if __name__ == "__main__":
    server.run("stdio")
