"""A session on the server, with the tools of an MCP server. This program only watches.

The session is kept by the server: end this program while it runs, and the session goes on.

Run:    python examples/mcp_agent/run.py [--url URL] ["What to do"]
Server: see examples/README.md. It starts notes_server.py, and offers its tools as notes_add and
        notes_read.
"""

import argparse
import asyncio

from caesura.chat import EventKind, SessionsClient


async def watch(client: SessionsClient, task: str) -> None:
    """Make a session and print what it does until it has answered."""
    session = await client.create(task, tools=["notes_add", "notes_read"], keep_open=False)
    print(f"session {session.id}")
    async for event in client.events(session.id):
        match event.kind:
            case EventKind.TEXT:
                print(event.text("text"), end="", flush=True)
            case EventKind.OUTPUT:
                print()
            case EventKind.CALL:
                print(f"-> {event.text('name')} {event.text('arguments')}")
            case EventKind.RESULT:
                print(f"<- {event.text('ending')}: {event.text('content')}")
            case EventKind.ENDED:
                print(f"-- {event.text('ending')} {event.text('error')}")


async def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A session with tools of an MCP server.")
    parser.add_argument(
        "task", nargs="?", default="Note that the kettle is on, then read me all notes."
    )
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--api-key")
    chosen = parser.parse_args()
    async with SessionsClient(chosen.url, chosen.api_key) as client:
        await watch(client, chosen.task)


if __name__ == "__main__":
    asyncio.run(main())
