"""Notes, as a server of the Model Context Protocol. `caesura serve` starts it (caesura.toml)."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("notes")
notes: list[str] = []


@server.tool()
def add(text: str) -> str:
    """Write a note."""
    notes.append(text)
    return f"written; there are {len(notes)} notes"


@server.tool()
def read() -> str:
    """Read all notes."""
    return "\n".join(notes) or "there are no notes"


if __name__ == "__main__":
    server.run("stdio")
