"""API keys with names: which tools they may use, whose sessions they see, and who approves."""

import asyncio
import sqlite3
import subprocess
import sys
import tomllib
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from caesura.errors import ConfigurationError
from caesura.server.access import Access
from caesura.server.keys import Key, KeySection, digest_of, key_table, new_key
from caesura.server.settings import ServerSettings, server_configuration
from caesura.session.agent import Agent
from caesura.session.limits import Limits
from server.served import Served, body, human, served
from session.workplace import tool

RAN: list[str] = []


def deploy(what: str) -> str:
    """Deploy."""
    RAN.append(what)
    return what


def add(x: int, y: int) -> int:
    """Add."""
    return x + y


def section(key: str, **fields: Any) -> KeySection:
    return KeySection(hash=f"sha256:{digest_of(key).hex()}", **fields)


NAMED = {
    "anna": section("key a", tools=["add", "deploy"]),
    "bert": section("key b", owner="anna", may_approve=True),
    "carl": section("key c", may_approve=True),
    "dora": section("key d", tools=[]),
}
TOOLS = (tool(add), tool(deploy, approve="operator"), human())
DEPLOY = '<<deploy {"what": "prod"}>>'


def header(letter: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key {letter}"}


@asynccontextmanager
async def with_keys(path: Path, **options: Any) -> AsyncIterator[Served]:
    keys = [*(Key.named(name, said) for name, said in NAMED.items()), Key.full("key full")]
    async with served(path, *TOOLS, keys=keys, **options) as server:
        yield server


async def made(server: Served, letter: str, plan: str = "hello", **fields: Any) -> httpx.Response:
    asked = body(plan, **fields)
    return await server.client.post("/v1/sessions", json=asked, headers=header(letter))


@pytest.mark.parametrize(
    ("letter", "asked", "default", "tools"),
    [
        ("a", {}, [], []),
        ("a", {"tools": None}, [], []),
        ("a", {}, None, ["add", "deploy"]),
        ("a", {}, ["ask", "add"], ["add"]),
        ("a", {"tools": "all"}, [], ["add", "deploy"]),
        ("a", {"tools": ["add"]}, None, ["add"]),
        ("a", {"tools": ["add", "ask"]}, None, None),
        ("d", {"tools": "all"}, None, []),
        ("d", {"tools": ["add"]}, None, None),
        ("full", {"tools": "all"}, [], "all"),
        ("full", {}, ["add"], ["add"]),
    ],
)
async def test_sessions_have_the_tools_that_they_ask_for_and_may_have(
    tmp_path: Path,
    letter: str,
    asked: dict[str, Any],
    default: list[str] | None,
    tools: list[str] | str | None,
) -> None:
    """None for what is refused."""
    async with with_keys(tmp_path / "db", default_tools=default) as server:
        answer = await made(server, letter, **asked)
        if tools is None:
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "tool_not_allowed"
        else:
            assert answer.json()["tools"] == (None if tools == "all" else tools)
        chat = {
            "messages": body("hello")["messages"],
            "caesura": {"tools": asked.get("tools") or []},
        }
        answer = await server.client.post("/v1/chat/completions", json=chat, headers=header(letter))
        assert answer.status_code == (403 if tools is None else 200)


async def test_a_tool_that_a_session_may_not_have_is_not_run(tmp_path: Path) -> None:
    async with with_keys(tmp_path / "db") as server:
        answer = await made(server, "a", '<<add {"x": 1, "y": 2}>>', keep_open=False, tools=[])
        (agent,) = server.agents.running
        async for _ in agent.events.follow():
            pass
        at = f"/v1/sessions/{answer.json()['id']}/transcript"
        seen = await server.client.get(at, headers=header("a"))
        assert "there is no tool" in seen.text


async def waiting(server: Served, letter: str) -> list[dict[str, Any]]:
    listed = await server.client.get(
        "/v1/approvals", params={"state": "waiting"}, headers=header(letter)
    )
    return listed.json()["data"]


@asynccontextmanager
async def asked(server: Served, letter: str) -> AsyncIterator[tuple[dict[str, Any], Agent]]:
    """The question of a session of a key that wants to deploy, and the session."""
    RAN.clear()
    changed = asyncio.Event()
    server.work.approvals.on_change.append(changed.set)
    answer = await made(server, letter, DEPLOY, keep_open=False, tools=["deploy"])
    assert answer.status_code == 201, answer.text
    await changed.wait()
    (question,) = await waiting(server, letter)
    (agent,) = server.agents.running
    yield question, agent


async def answered(server: Served, question: dict[str, Any], letter: str) -> httpx.Response:
    return await server.client.post(
        f"/v1/approvals/{question['id']}", json={"accepted": True}, headers=header(letter)
    )


@pytest.mark.parametrize(
    ("maker", "sees", "may"),
    [
        ("a", ["a", "b", "c", "full"], ["b", "c", "full"]),
        ("b", ["a", "b", "c", "full"], ["c", "full"]),
        ("c", ["b", "c", "full"], ["b", "full"]),
        ("full", ["b", "c", "full"], ["b", "c"]),
    ],
)
async def test_an_operator_answers_and_not_whoever_has_made_the_session(
    tmp_path: Path, maker: str, sees: list[str], may: list[str]
) -> None:
    for number, operator in enumerate(may):
        async with (
            with_keys(tmp_path / f"db{number}") as server,
            asked(server, maker) as (question, agent),
        ):
            assert question["by_operator"]
            for letter in ("a", "b", "c", "d", "full"):
                seen = [question["id"]] if letter in sees else []
                assert [each["id"] for each in await waiting(server, letter)] == seen
                if letter not in may:
                    status = 403 if letter in sees else 404
                    assert (await answered(server, question, letter)).status_code == status
            assert not RAN
            given = await answered(server, question, operator)
            assert given.status_code == 200, given.text
            name = {"b": "bert", "c": "carl", "full": "--api-key"}[operator]
            assert given.json()["answer"]["by"] == name
            told = [event async for event in agent.events.follow()]
            assert RAN == ["prod"]
            (event,) = [each for each in told if each.type == "approval.answered"]
            assert event.data["by"] == name


async def test_what_a_sessions_own_user_is_asked_is_no_operators_business(tmp_path: Path) -> None:
    async with with_keys(tmp_path / "db") as server:
        changed = asyncio.Event()
        server.work.approvals.on_change.append(changed.set)
        await made(server, "full", '<<ask {"question": "well?"}>>', tools=["ask"])
        await changed.wait()
        (question,) = await waiting(server, "full")
        assert not question["by_operator"]
        assert await waiting(server, "b") == []
        given = {"accepted": True, "text": "yes"}
        place = f"/v1/approvals/{question['id']}"
        for letter, status in (("b", 404), ("full", 200)):
            answer = await server.client.post(place, json=given, headers=header(letter))
            assert answer.status_code == status


async def test_nobody_says_who_has_made_a_session_but_its_key(tmp_path: Path) -> None:
    async with with_keys(tmp_path / "db") as server:
        assert (await made(server, "a", made_by="carl")).status_code == 400
        await made(server, "a")
        (agent,) = server.agents.running
        record = await server.agents.get("anna", agent.id)
        assert record.spec.made_by == "anna"


async def test_keys_of_one_owner_see_the_same_sessions(tmp_path: Path) -> None:
    async with with_keys(tmp_path / "db") as server:
        session = (await made(server, "a")).json()["id"]
        statuses = [
            (await server.client.get(f"/v1/sessions/{session}", headers=header(letter))).status_code
            for letter in ("a", "b", "c", "full")
        ]
        assert statuses == [200, 200, 404, 404]


async def test_the_log_of_answers_says_who_saw_what_and_cannot_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with with_keys(path, retention_seconds=0.0) as server:
        async with asked(server, "a") as (question, agent):
            await answered(server, question, "c")
        async for _ in agent.events.follow():
            pass
        await server.work.store.delete_ended(server.work.store.clock() + 1)
        assert await server.work.store.session(question["session_id"]) is None
    with sqlite3.connect(path) as database:
        columns = "answered_by, owner, session_id, json_extract(shown, '$.arguments.what')"
        rows = database.execute(f"SELECT {columns} FROM answer_log").fetchall()
        assert rows == [("carl", "anna", question["session_id"], "prod")]
        for change in ("DELETE FROM answer_log", "UPDATE answer_log SET answered_by = 'anna'"):
            with pytest.raises(sqlite3.IntegrityError, match="only added to"):
                database.execute(change)


async def test_limits_of_an_owner(tmp_path: Path) -> None:
    limits = {"anna": replace(Limits(), open_sessions_per_owner=1, max_turns=3)}
    async with with_keys(tmp_path / "db", owner_limits=limits) as server:
        assert (await made(server, "a", max_turns=4)).status_code == 400
        assert (await made(server, "b")).status_code == 201  # of the same owner
        assert (await made(server, "a")).status_code == 429
        for _ in range(2):
            assert (await made(server, "c", max_turns=4)).status_code == 201


def settings(text: str, folder: Path) -> ServerSettings:
    (file := folder / "caesura.toml").write_text(text)
    return server_configuration(file).settings


def test_keys_of_a_file_and_of_the_command_line_are_asked_for_together(tmp_path: Path) -> None:
    said = settings(key_table("anna", "key a", tools=["add"]), tmp_path)
    args = Namespace(api_key=["key full"], allowed_origins=["*"])
    access = Access.of_server(args, (), said.keys)
    assert [(key.name, key.owner, key.tools, key.may_approve) for key in access.keys] == [
        ("--api-key", None, None, True),
        ("anna", "anna", frozenset({"add"}), False),
    ]
    assert access.owners == 2
    only_named = Access.of_server(Namespace(api_key=None, allowed_origins=["*"]), (), said.keys)
    assert only_named.has_keys


def test_limits_of_keys_are_their_owners(tmp_path: Path) -> None:
    own = "open_sessions = 2\nmax_tokens = 9\ngenerating = 3\n"
    said = settings(key_table("anna", "key a") + own, tmp_path)
    (limits,) = said.owner_limits(Limits(max_turns=7)).values()
    expected = Limits(open_sessions_per_owner=2, max_tokens=9, generating_per_owner=3, max_turns=7)
    assert limits == expected
    assert (said.generating_of("anna"), said.generating_of("other")) == (3, None)
    said = settings(key_table("anna", "a") + "[sessions]\ngenerating_per_owner = 5\n", tmp_path)
    assert (said.generating_of("anna"), said.generating_of("other")) == (5, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[keys.anna]\nhash = ""', r"keys\.anna\.hash"),
        ('[keys.anna]\nhash = "secret"', r"keys\.anna\.hash"),
        (f'[keys."a b"]\nhash = "sha256:{"0" * 64}"', "keys"),
        (f'[keys.a]\nhash = "sha256:{"0" * 64}"\nadmin = true', "is not a setting here"),
        (
            f'[keys.a]\nhash = "sha256:{"0" * 64}"\n[keys.b]\nhash = "sha256:{"0" * 64}"',
            "are the same key",
        ),
        (
            f'[keys.a]\nhash = "sha256:{"0" * 64}"\nmax_turns = 2\n'
            f'[keys.b]\nowner = "a"\nhash = "sha256:{"1" * 64}"',
            "have one owner",
        ),
    ],
)
def test_tables_that_do_not_fit_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        settings(text, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '[tools.ask]\ntype = "human"\napprove = "operator"',
        '[mcp.files]\ncommand = "x"\napprove = "operator"',
        '[mcp.files]\ncommand = "x"\n[mcp.files.settings.write]\napprove = "operator"',
    ],
)
def test_operators_must_exist(tmp_path: Path, text: str) -> None:
    said = settings(text, tmp_path)
    for keys in ((), (Key.named("anna", NAMED["anna"]),)):
        with pytest.raises(ConfigurationError, match="no API key may approve"):
            Access(keys).require_operators(said)
    Access((Key.full("x"),)).require_operators(said)
    Access((Key.named("bert", NAMED["bert"]),)).require_operators(said)
    Access().require_operators(settings('[tools.ask]\ntype = "human"\napprove = true', tmp_path))


def test_new_keys_are_long_and_differ() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert min(map(len, keys)) > 40


def add_key(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "caesura.cli", "keys", "add", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_key_is_made_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "caesura.toml"
    file.write_text('[tools.ask]\ntype = "human"')
    words = ("anna", "--config", str(file), "--tools", "add, ask", "--owner", "us", "--may-approve")
    done = add_key(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    key = done.stdout.strip()
    assert key not in file.read_text()
    said = server_configuration(file).settings.keys["anna"]
    assert said == section(key, owner="us", tools=["add", "ask"], may_approve=True)
    again = add_key("anna", "--config", str(file), folder=tmp_path)
    assert (again.returncode, "has a key 'anna' already" in again.stderr) == (2, True)
    shown = add_key("bert", folder=tmp_path)
    table = tomllib.loads(shown.stderr)["keys"]["bert"]
    assert KeySection(**table) == section(shown.stdout.strip())
    wrong = add_key("a b", folder=tmp_path)
    assert (wrong.returncode, "is no name of a key" in wrong.stderr) == (2, True)
