"""Databases of earlier versions are opened, and their sessions go on."""

from pathlib import Path

from caesura.session.calling import Course
from caesura.session.database import Statement
from caesura.session.records import SessionEnding
from session.workplace import OWNER, agents, events, spec, store_of, stored, tool


async def test_a_session_of_the_first_schema_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with agents(path, tool(look)) as all_agents:
        old = await all_agents.create(OWNER, spec("hello"))

        async def idle() -> bool:
            return (await all_agents.get(OWNER, old.id)).phase == "idle"

        await stored(idle)
        # What the first schema did not have.
        for column in ("sessions DROP COLUMN course", "calls DROP COLUMN label"):
            await store_of(all_agents).commit(Statement(f"ALTER TABLE {column}"))
        await store_of(all_agents).commit(Statement("PRAGMA user_version = 1"))
    async with agents(path, tool(look)) as all_agents:
        (agent,) = all_agents.running
        assert await store_of(all_agents).course(agent.id, 7) == Course(7)
        await agent.cancel()
        assert (await events(agent))[-1].data["ending"] == SessionEnding.CANCELLED


def look(x: int) -> str:
    """Look."""
    return f"saw {x}"
