"""A request that comes again is carried out once, and is answered the same."""

import asyncio
from pathlib import Path

import pytest

from caesura.session.agents import Agents
from caesura.session.database import Check
from caesura.session.errors import DuplicateSession, RequestConflict, RequestRepeated
from caesura.session.limits import Limits
from caesura.session.records import EventType
from caesura.session.store import RequestKey, Store
from caesura.session.store.request_table import KEPT_SECONDS
from caesura.tools.call import Answer
from session.workplace import OWNER, agents, events, spec, store_of, tool, until, workplace

KEY = RequestKey("k", "asked")
OTHER = RequestKey("k", "asked for something else")

ON_EACH_DATABASE = True


async def test_the_same_request_makes_one_session_also_after_a_restart(tmp_path: Path) -> None:
    async with agents(tmp_path / "db", open_sessions_per_owner=2) as all_agents:
        made = await asyncio.gather(
            *(all_agents.create(OWNER, spec("hello"), [KEY]) for _ in range(20))
        )
        assert len({agent.id for agent in made}) == 1
        with pytest.raises(RequestConflict):
            await all_agents.create(OWNER, spec("bye"), [OTHER])
        others = await all_agents.create("somebody else", spec("bye"), [OTHER])
        assert others.id != made[0].id
    async with agents(tmp_path / "db", open_sessions_per_owner=1) as all_agents:
        again = await all_agents.create(OWNER, spec("hello"), [KEY])
        assert again.id == made[0].id
        await again.cancel()
        await events(again)
        assert (await all_agents.create(OWNER, spec("hello"), [KEY])).id == made[0].id
        assert len(await all_agents.sessions(OWNER)) == 1


async def test_different_requests_at_once_under_one_key_make_one(tmp_path: Path) -> None:
    async with agents(tmp_path / "db") as all_agents:
        keys = [RequestKey("k", str(n)) for n in range(9)]
        outcomes = await asyncio.gather(
            *(all_agents.create(OWNER, spec("hello"), [key]) for key in keys),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, RequestConflict) for outcome in outcomes) == 8
        assert len(await all_agents.sessions(OWNER)) == 1


async def test_a_request_that_is_refused_leaves_no_key(tmp_path: Path) -> None:
    async with agents(tmp_path / "db", open_sessions_per_owner=1) as all_agents:
        first = await all_agents.create(OWNER, spec("hello"))
        with pytest.raises(Exception, match="1 sessions are open"):
            await all_agents.create(OWNER, spec("hello"), [KEY])
        await first.cancel()
        await events(first)
        assert (await all_agents.create(OWNER, spec("bye"), [OTHER])).id != first.id


async def test_a_session_has_the_id_that_its_client_gives(tmp_path: Path) -> None:
    lasting = RequestKey("id", "asked", lasts=True)
    async with agents(tmp_path / "db") as all_agents:
        made = [
            await all_agents.create(OWNER, spec("hello"), [lasting], "sess_mine") for _ in range(2)
        ]
        assert [agent.id for agent in made] == ["sess_mine", "sess_mine"]
        with pytest.raises(DuplicateSession):
            await all_agents.create("somebody else", spec("hello"), [lasting], "sess_mine")
        assert len(await all_agents.sessions(OWNER)) == 1
        assert await all_agents.sessions("somebody else") == []


async def test_a_key_expires_and_one_that_lasts_does_not(tmp_path: Path) -> None:
    now = [1_000_000.0]
    lasting = RequestKey("id", "asked", lasts=True)
    limits = Limits(idle_seconds=10**9)
    async with workplace(tmp_path / "db", clock=lambda: now[0], limits=limits) as work:
        all_agents = Agents(work)
        first = await all_agents.create(OWNER, spec("hello"), [KEY])
        named = await all_agents.create(OWNER, spec("hello"), [lasting], "sess_mine")
        now[0] += KEPT_SECONDS - 1
        assert (await all_agents.create(OWNER, spec("hello"), [KEY])).id == first.id
        now[0] += 2
        assert (await all_agents.create(OWNER, spec("hello"), [OTHER])).id != first.id
        now[0] += KEPT_SECONDS
        await work.store.commit(work.store.forget_requests(now[0]))
        assert await work.store._database.read("SELECT key FROM requests") == [("id",)]
        assert (await all_agents.create(OWNER, spec("x"), [lasting])).id == named.id
        await all_agents.stop()


async def test_a_message_is_said_once(tmp_path: Path) -> None:
    async with agents(tmp_path / "db") as all_agents:
        agent = await all_agents.create(OWNER, spec("hello"))
        await until(agent, EventType.OUTPUT)
        await agent.hold(True)
        outcomes = await asyncio.gather(
            *(agent.steer("hurry", [KEY]) for _ in range(9)), return_exceptions=True
        )
        assert sum(isinstance(outcome, RequestRepeated) for outcome in outcomes) == 8
        messages = await store_of(all_agents).messages(agent.id)
        assert [text for _, text in messages] == ["hurry"]


async def test_an_answer_counts_once_and_is_answered_again(tmp_path: Path) -> None:
    def risky() -> str:
        """Do it."""
        return "did it"

    async with agents(tmp_path / "db", tool(risky, approve=True)) as all_agents:
        agent = await all_agents.create(OWNER, spec("<<risky {}>>\nend"))
        approval = (await until(agent, EventType.ASKED)).data["approval_id"]
        given = await asyncio.gather(
            *(all_agents.answer(OWNER, approval, Answer(True), [KEY]) for _ in range(9))
        )
        assert given == [True] * 9
        assert not await all_agents.answer(OWNER, approval, Answer(True))
        assert not await all_agents.answer(OWNER, approval, Answer(True), [RequestKey("l", "")])
        with pytest.raises(RequestConflict):
            await all_agents.answer(OWNER, approval, Answer(False), [OTHER])
        await until(agent, EventType.OUTPUT, turn=2)
        told = await store_of(all_agents).events(agent.id)
        assert sum(event.type is EventType.ANSWERED for event in told) == 1


async def test_a_key_goes_with_its_session(tmp_path: Path) -> None:
    async with agents(tmp_path / "db") as all_agents:
        agent = await all_agents.create(OWNER, spec("hello", keep_open=False), [KEY])
        await events(agent)
        store = store_of(all_agents)
        await store.delete_ended(float("inf"))
        assert await store.owner_bytes(OWNER) == 0
        assert await store.repeated(OWNER, [KEY]) is None


async def test_a_repeated_request_that_meets_a_limit_is_answered_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents(tmp_path / "db", open_sessions_per_owner=1) as all_agents:
        require, first = Store.require, []

        async def after_the_first(store: Store, *checks: Check) -> None:
            if not first:
                first.append(None)
                first.append(await all_agents.create(OWNER, spec("hello"), [KEY]))
            await require(store, *checks)

        monkeypatch.setattr(Store, "require", after_the_first)
        again = await all_agents.create(OWNER, spec("hello"), [KEY])
        assert again.id == first[1].id
