"""The log's last lines at the start: sessions, tools, who may use them, where to look."""

import logging
import sqlite3
from argparse import Namespace
from pathlib import Path

import pytest
from fastapi import FastAPI

from caesura.errors import ConfigurationError
from caesura.server.access import Access
from caesura.server.announcement import Announcement
from caesura.server.parts import Parts
from caesura.server.sessions.running import running_sessions
from caesura.server.sessions.service import Service, Unavailable
from caesura.server.settings import server_configuration
from server.served import human, known, served
from session.scripted import END, ByteDialogue, model
from support.engines.fakes import FakeEngine

EVERYBODY = (
    "to everybody who reaches it (there is no API key): everybody may read and steer all sessions, "
    "answer for their users, and run what tools there are"
)


def arguments(**given: object) -> Namespace:
    by_default = {"host": "127.0.0.1", "port": 8000, "uds": None, "ssl_keyfile": None}
    return Namespace(**{**by_default, "ssl_certfile": None, **given})


async def announced(
    caplog: pytest.LogCaptureFixture,
    sessions: Service | Unavailable,
    *,
    has_keys: bool = False,
    **given: object,
) -> list[str]:
    """What is logged when the application is ready, and nothing before."""
    app = FastAPI()
    app.state.caesura = sessions
    app.state.caesura_access = Access(known("a") if has_keys else ())
    parts = Parts([Announcement()])
    with caplog.at_level(logging.INFO, "caesura"):
        parts.attach(app)
        await parts.start(object(), app.state, arguments(**given))
        assert not caplog.messages
        async with app.router.lifespan_context(app):
            return list(caplog.messages)


async def test_it_says_where_sessions_are_kept_and_what_tools_there_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path / "db", human(), human("approve_it")) as server:
        await server.session('<<ask {"question": "well?"}>>')
        await server.asked()
        lines = await announced(caplog, server.service)
    assert lines == [
        f"Sessions are kept in {tmp_path / 'db'} (1 of them open)",
        "Tools that the server runs: approve_it, ask",
        "Open at http://127.0.0.1:8000 to everybody on this machine (there is no API key)",
        "Dashboard: http://127.0.0.1:8000/dashboard/; now type `caesura chat`",
    ]


async def test_of_many_tools_it_names_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tools = [human(f"ask_{number:02}") for number in range(23)]
    async with served(tmp_path / "db", *tools) as server:
        (_, line, *_) = await announced(caplog, server.service)
    assert line.endswith("ask_18, ask_19 and 3 more")
    async with served(tmp_path / "other") as server:
        caplog.clear()
        (_, line, *_) = await announced(caplog, server.service)
    assert line == "Tools that the server runs: none (they are configured in a file, see --config)"


@pytest.mark.parametrize(
    ("given", "access", "what_now"),
    [
        (
            {"has_keys": True, "host": "::1", "port": 9000},
            "Open at http://[::1]:9000 to anyone with an API key; /health, /ping and the "
            "dashboard's page to everybody",
            "Dashboard: http://[::1]:9000/dashboard/; now type `caesura chat --url "
            "http://[::1]:9000 --api-key KEY`",
        ),
        (
            {"host": "0.0.0.0", "ssl_keyfile": "key", "ssl_certfile": "certificate"},
            f"Open at https://0.0.0.0:8000 {EVERYBODY}",
            "Dashboard: https://localhost:8000/dashboard/; now type `caesura chat --url "
            "https://localhost:8000`",
        ),
        (
            {"uds": "/run/caesura.sock"},
            "Open at unix:/run/caesura.sock to everybody on this machine (there is no API key)",
            "Dashboard: /dashboard/ on unix:/run/caesura.sock",
        ),
    ],
)
async def test_it_says_who_may_use_it_and_where_to_look(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    given: dict[str, object],
    access: str,
    what_now: str,
) -> None:
    async with served(tmp_path / "db") as server:
        lines = await announced(caplog, server.service, **given)
    assert lines[2:] == [access, what_now]


async def test_a_database_that_is_locked_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    holder = sqlite3.connect("caesura.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    configuration = server_configuration(None)
    with pytest.raises(ConfigurationError) as refused:
        async with running_sessions(
            configuration, FakeEngine(END, model), ByteDialogue(), models=("demo",)
        ):
            pass
    holder.close()
    caplog.clear()
    lines = await announced(caplog, Unavailable(str(refused.value)))
    assert caplog.records[0].levelno == logging.WARNING
    assert lines[0].startswith("This server runs no sessions: cannot use the database")
    assert lines[0].endswith("caesura.db: database is locked")
    assert lines[3] == "Dashboard: http://127.0.0.1:8000/dashboard/"
