"""Agents in CML on the planned model."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from caesura.session.agents import Agents
from caesura.session.records import SessionSpec
from caesura.tools.endpoint import Endpoint
from session.calling.byte_model import PROMPT
from session.planned import FORMATS, engine
from session.workplace import agents, spec

LONG = "word " * 300


def look(x: int) -> str:
    """Look."""
    return f"saw {x}"


@asynccontextmanager
async def running(path: Path, *tools: Endpoint) -> AsyncIterator[Agents]:
    async with agents(path, *tools, engine=engine(), formats=FORMATS) as all_agents:
        yield all_agents


def asked(plan: str, mode: str = "async", **fields: Any) -> SessionSpec:
    return spec(plan, function_calling=mode, **{"keep_open": False, **fields})


def prompt_end(transcript: Sequence[int]) -> int:
    """Where the latest prompt ends."""
    return len(transcript) - list(transcript)[::-1].index(PROMPT)
