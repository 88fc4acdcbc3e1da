"""Limits that a key has for its owner: each is kept for that one, and no other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers

from caesura.server.keys import KeySection
from caesura.server.settings import ServerSettings
from caesura.session.limits import Limits
from caesura.session.records import EventType
from server.served import Served, body, human, served
from session.workplace import tool, until

HASH = f"sha256:{'0' * 64}"
EACH = {
    "open_sessions": 2,
    "sessions_per_minute": 3,
    "owner_size": "1MiB",
    "waiting_messages": 4,
    "calls_per_turn": 5,
    "streams": 6,
    "generating": 12,
    "max_tokens": 7,
    "max_turns": 8,
    "metadata_size": 9,
    "idle_seconds": 10,
    "retention_seconds": 11,
}
AS_LIMITS = Limits(2, 3, 2**20, 4, 5, 6, 12, 7, 8, 9, 10, 11)
LIMITED, OTHER = ({"Authorization": f"Bearer {name}"} for name in ("anna", "bert"))


def test_each_limit_of_sessions_can_be_set_for_a_key() -> None:
    section = KeySection.model_validate({"hash": HASH, **EACH})
    assert section.limited(Limits()) == AS_LIMITS
    of_all = {field.name for field in fields(Limits)} - {"sweep_seconds"}
    assert len(EACH) == len(of_all)
    own = replace(AS_LIMITS, sweep_seconds=1.0)
    assert KeySection(hash=HASH).limited(own) == own
    said = ServerSettings.model_validate({"keys": {"anna": {"hash": HASH, "streams": 1}}})
    assert said.owner_limits(AS_LIMITS) == {"anna": replace(AS_LIMITS, streams_per_owner=1)}


def add(x: int) -> int:
    """Add."""
    return x


@asynccontextmanager
async def limited(
    path: Path, now: list[float] | None = None, **limit: Any
) -> AsyncIterator[Served]:
    """A server on which `anna` has a limit of her own."""
    options: dict[str, Any] = {} if now is None else {"clock": lambda: now[0]}
    async with served(path, tool(add), has_keys=True, **options) as server:
        owner = server.app.state.caesura_owners.of(Headers(LIMITED))
        server.work.owner_limits[owner] = replace(Limits(), **limit)
        yield server


async def made(server: Served, who: dict[str, str], plan: str = "hello", **more: Any) -> Any:
    return await server.client.post("/v1/sessions", json=body(plan, **more), headers=who)


async def statuses(server: Served, *posts: tuple[str, Any]) -> list[int]:
    """Statuses of the same requests by both."""
    found = []
    for who in (LIMITED, OTHER):
        for plan, more in posts:
            found.append((await made(server, who, plan, **more)).status_code)
    return found


async def test_what_is_asked_for_is_limited(tmp_path: Path) -> None:
    for name, limit, asked, status in (
        ("open_sessions_per_owner", 1, {}, 429),
        ("sessions_per_minute", 1, {}, 429),
        ("max_tokens", 10, {"max_tokens": 11}, 400),
        ("max_turns", 10, {"max_turns": 11}, 400),
        ("metadata_bytes", 1, {"metadata": {"a": "b"}}, 400),
        ("owner_bytes", 2**10, {"metadata": {"a": "b" * 2**11}}, 429),
    ):
        async with limited(tmp_path / name, **{name: limit}) as server:
            first = {"max_tokens": 10} if name == "max_tokens" else {}
            got = await statuses(server, ("hello", first), ("hello", asked))
            if name == "owner_bytes":
                got[0] = 201  # a session takes more than that by itself
            assert got == [201, status, 201, 201], name


async def test_messages_that_wait_are_limited(tmp_path: Path) -> None:
    async with limited(tmp_path / "db", waiting_messages=1) as server:
        codes = []
        for who in (LIMITED, OTHER):
            path = f"/v1/sessions/{(await made(server, who)).json()['id']}"
            await server.client.post(f"{path}/pause", headers=who)
            for _ in range(2):
                said = await server.client.post(
                    f"{path}/messages", json={"content": "x"}, headers=who
                )
                codes.append(said.status_code)
        assert codes == [202, 429, 202, 202]


async def test_what_is_said_in_a_session_counts_for_its_owner(tmp_path: Path) -> None:
    async with limited(tmp_path / "db", owner_bytes=2**17) as server:
        codes = []
        for who in (LIMITED, OTHER):
            path = f"/v1/sessions/{(await made(server, who)).json()['id']}"
            await server.client.post(f"{path}/pause", headers=who)
            said = await server.client.post(
                f"{path}/messages", json={"content": "x" * 2**18}, headers=who
            )
            codes.append(said.status_code)
        assert codes == [429, 202]


async def test_calls_of_a_turn_are_limited(tmp_path: Path) -> None:
    async with limited(tmp_path / "db", calls_per_turn=1) as server:
        endings = []
        for who in (LIMITED, OTHER):
            session = (await made(server, who, '<<add {"x": 1}>> <<add {"x": 2}>>')).json()
            (agent,) = (each for each in server.agents.running if each.id == session["id"])
            await until(agent, EventType.OUTPUT, turn=2)
            told = await server.work.store.events(agent.id)
            endings.append([e.data["ending"] for e in told if e.type is EventType.RESULT])
        assert sorted(endings[0]) == ["failed", "succeeded"]
        assert endings[1] == ["succeeded", "succeeded"]


async def test_streams_are_limited(tmp_path: Path) -> None:
    async with limited(tmp_path / "db", streams_per_owner=1) as server:
        codes = []
        for who in (LIMITED, OTHER):
            session = (await made(server, who)).json()
            path = f"/v1/sessions/{session['id']}/events"
            async with server.client.stream("GET", path, headers=who) as first:
                codes.append(first.status_code)
                listed = await server.client.get(path, params={"stream": "false"}, headers=who)
                codes.append(listed.status_code)
        assert codes == [200, 429, 200, 200]


async def test_sessions_expire_and_are_forgotten_in_their_owners_time(tmp_path: Path) -> None:
    now = [1_000_000.0]
    limits = {"idle_seconds": 100.0, "retention_seconds": 50.0, "owner_bytes": 2**30}
    async with limited(tmp_path / "db", now, **limits) as server:
        ids = [(await made(server, who)).json()["id"] for who in (LIMITED, OTHER)]
        agents = {agent.id: agent for agent in server.agents.running}
        for each in ids:
            await until(agents[each], EventType.PHASE, phase="idle")

        async def seen() -> list[str | None]:
            found = [await server.work.store.session(each) for each in ids]
            return [None if record is None else str(record.phase) for record in found]

        now[0] += 101
        await server.agents.sweep()
        await until(agents[ids[0]], EventType.ENDED, ending="expired")
        assert await seen() == ["ended", "idle"]
        await agents[ids[1]].cancel()
        await until(agents[ids[1]], EventType.ENDED)
        now[0] += 49
        await server.agents.sweep()
        assert await seen() == ["ended", "ended"]
        now[0] += 2
        await server.agents.sweep()
        assert await seen() == [None, "ended"]
        now[0] += Limits().retention_seconds
        await server.agents.sweep()
        assert await seen() == [None, None]


async def test_an_owner_that_was_given_less_loses_its_own_oldest(tmp_path: Path) -> None:
    async with limited(tmp_path / "db") as server:
        ids = []
        for who in (LIMITED, OTHER):
            ids.append((await made(server, who, keep_open=False)).json()["id"])
            record = await server.work.store.session(ids[-1])
            await until(await server.agents.agent(record.owner, ids[-1]), EventType.ENDED)
        (owner,) = server.work.owner_limits
        server.work.owner_limits[owner] = replace(Limits(), owner_bytes=1)
        await server.agents.sweep()
        assert await server.work.store.session(ids[0]) is None
        assert await server.work.store.session(ids[1]) is not None


async def test_an_owner_may_keep_its_sessions_for_longer_than_others(tmp_path: Path) -> None:
    now, longer = [1_000_000.0], 10 * Limits().retention_seconds
    async with limited(tmp_path / "db", now, retention_seconds=longer) as server:
        ids = []
        for who in (LIMITED, OTHER):
            ids.append((await made(server, who, keep_open=False)).json()["id"])
            record = await server.work.store.session(ids[-1])
            await until(await server.agents.agent(record.owner, ids[-1]), EventType.ENDED)
        now[0] += 2 * Limits().retention_seconds
        await server.agents.sweep()
        kept = [await server.work.store.session(each) for each in ids]
        assert [record is not None for record in kept] == [True, False]


async def test_answers_of_an_owner_without_room_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human(), has_keys=True) as server:
        codes = []
        for who in (LIMITED, OTHER):
            session = (await made(server, who, '<<ask {"question": "well?"}>>')).json()
            record = await server.work.store.session(session["id"])
            agent = await server.agents.agent(record.owner, record.id)
            key = (await until(agent, EventType.ASKED)).data["approval_id"]
            if who is LIMITED:
                server.work.owner_limits[record.owner] = replace(Limits(), owner_bytes=1)
            given = {"accepted": True, "text": "yes"}
            answered = await server.client.post(f"/v1/approvals/{key}", json=given, headers=who)
            codes.append(answered.status_code)
        assert codes == [429, 200]
