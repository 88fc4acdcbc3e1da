"""Two tools behind HTTP: who owns an item, and how a contact is reached.

It serves a socket that the program that starts it has opened, and ends with that program.
"""

import argparse
import asyncio
import socket
import sys
import threading

import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse

from caesura.bundled.world import UnknownCode, World

app = FastAPI(title="Directory")
world = World.of_environment()


@app.get("/owners/{item}", response_class=PlainTextResponse)
async def owner(item: str) -> str:
    """The contact who owns an item."""
    return await _look_up("owner", item)


@app.get("/phones/{contact}", response_class=PlainTextResponse)
async def phone(contact: str) -> str:
    """A contact's phone number."""
    return await _look_up("phone", contact)


async def _look_up(tool: str, code: str) -> str:
    try:
        value = world.value(tool, code)
    except UnknownCode as error:
        raise HTTPException(404, str(error)) from None
    await asyncio.sleep(world.seconds(tool, code))
    return value


def serve(listener: socket.socket) -> None:
    """Serve until standard input ends."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))

    def end_with_the_parent() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end_with_the_parent, daemon=True).start()
    server.run(sockets=[listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=int, required=True, help="File descriptor to serve.")
    serve(socket.socket(fileno=parser.parse_args().socket))
