"""Owners that must not learn of each other share no contexts, whatever kind their sessions are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caesura.session.agents import Agents
from caesura.session.call_format import CallFormats
from caesura.session.records import SessionSpec
from session import planned
from session.cml_workplace import asked
from session.scripted import END, model
from session.workplace import spec, workplace
from support.engines.fakes import FakeEngine


def noting(engine: FakeEngine) -> list[str | None]:
    """The salts of the sessions that it opens from now on."""
    salts: list[str | None] = []
    opened = engine.open

    async def open_noted(*arguments: Any) -> Any:
        salts.append(arguments[2].salt)
        return await opened(*arguments)

    engine.open = open_noted  # type: ignore[method-assign]
    return salts


@pytest.mark.parametrize("separates", [True, False])
@pytest.mark.parametrize(
    ("engine", "formats", "plan"),
    [
        (FakeEngine(END, model), CallFormats(), spec("hello", keep_open=False)),
        (planned.engine(), planned.FORMATS, asked("hello")),
    ],
    ids=["turns", "cml"],
)
async def test_each_owner_has_a_salt(
    tmp_path: Path,
    engine: FakeEngine,
    formats: CallFormats,
    plan: SessionSpec,
    separates: bool,
) -> None:
    salts = noting(engine)
    async with workplace(tmp_path / "db", engine=engine, formats=formats) as work:
        agents = Agents(replace(work, separates_owners=separates))
        await agents.start()
        for owner in ("anna", "bert", "anna"):
            agent = await agents.create(owner, plan)
            async for _ in agent.events.follow():
                pass
        await agents.stop()
    assert salts == (["anna", "bert", "anna"] if separates else [None, None, None])
