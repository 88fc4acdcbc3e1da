"""An MCP server whose tools do what tests need; as a program it serves stdio."""

import os
from pathlib import Path
from typing import Annotated

import anyio
from mcp.server.mcpserver import (
    AcceptedElicitation,
    Context,
    Elicit,
    ElicitationResult,
    Image,
    MCPServer,
    Resolve,
)
from pydantic import BaseModel

server = MCPServer("tools for tests")


class Address(BaseModel):
    street: str
    number: int


class Sum(BaseModel):
    total: int


async def ask_for_address() -> Elicit[Address]:
    return Elicit("Where to?", Address)


@server.tool()
def add(a: int, b: int) -> Sum:
    """Add two numbers."""
    return Sum(total=a + b)


@server.tool()
def environment(name: str) -> str:
    """A variable of this process."""
    return os.environ.get(name, "(not set)")


@server.tool()
def process() -> str:
    """This process."""
    return str(os.getpid())


@server.tool()
def fail(message: str) -> str:
    """Always fails."""
    raise ValueError(message)


@server.tool()
def picture() -> Image:
    """A picture."""
    return Image(data=b"\x89PNG" + bytes(20), format="png")


@server.tool(structured_output=False)
def huge(size: int) -> str:
    """So many letters."""
    return "x" * size


@server.tool()
def die(marker: str) -> str:
    """Ends this process in the middle of a call, after noting that it ran."""
    with Path(marker).open("a") as file:
        file.write("ran\n")
    os._exit(1)


@server.tool()
async def hang() -> str:
    """Never answers."""
    await anyio.sleep_forever()
    return "never"


@server.tool()
async def slow(ctx: Context) -> str:
    """Reports how far it is."""
    await ctx.report_progress(1, 4, "a quarter")
    await ctx.report_progress(3, 4, "three quarters")
    return "done"


@server.tool()
async def overflow(ctx: Context) -> str:
    """Reports more than there are numbers for."""
    await ctx.report_progress(1e308, 1e-308, "far")
    return "done"


@server.tool()
async def deliver(
    what: str, address: Annotated[ElicitationResult[Address], Resolve(ask_for_address)]
) -> str:
    """Asks for an address."""
    if isinstance(address, AcceptedElicitation):
        return f"{what} to {address.data.street} {address.data.number}"
    return f"{what} stays here"


@server.tool()
async def grow(ctx: Context) -> str:
    """Adds a tool to this server."""

    def grown() -> str:
        """A tool that was not there at first."""
        return "grown"

    server.add_tool(grown)
    await ctx.notify_tools_changed()
    return "ok"


if __name__ == "__main__":
    server.run("stdio")
