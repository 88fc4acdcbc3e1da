"""A shop's data over HTTP, as slow as such services are. The server's tools ask it (caesura.toml).

What it answers is made up when it is asked for the first time.

Run: python examples/async_agent/shop.py [--port PORT]
"""

import argparse
import asyncio
import random
import string

import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse

SECONDS = {
    "carrier": 0.9,
    "owner": 0.7,
    "phone": 0.5,
    "status": 0.3,
    "stock": 0.12,
    "price": 0.05,
}
STATUSES = ("new", "packed", "sent", "late", "ready", "delivered")
FORMS = {"carrier": "AA00", "owner": "AA00", "phone": "000000", "stock": "0000", "price": "0000"}
SYMBOLS = {"A": "ABCDEFGHJKLMNPQRSTUVWXYZ", "0": string.digits}

app = FastAPI(title="Shop")
answers: dict[tuple[str, str], str] = {}


@app.get("/{tool}/{code}", response_class=PlainTextResponse)
async def look_up(tool: str, code: str) -> str:
    """Answer after a while."""
    if tool not in SECONDS:
        raise HTTPException(404, f"there is no {tool!r}; there are: {', '.join(SECONDS)}")
    await asyncio.sleep(SECONDS[tool] * random.uniform(0.8, 1.2))
    return answers.setdefault((tool, code), made_up(tool))


def made_up(tool: str) -> str:
    """A random answer."""
    if tool == "status":
        return random.choice(STATUSES)
    return "".join(random.choice(SYMBOLS[kind]) for kind in FORMS[tool])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A shop's data, over HTTP.")
    parser.add_argument("--port", type=int, default=8100)
    uvicorn.run(app, port=parser.parse_args().port, log_level="warning")
