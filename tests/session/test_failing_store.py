"""A store that fails once, at any of its writes: what happens is done once, or said to be open."""

from itertools import count
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from caesura.session import agent as agent_module
from caesura.session import left_calls
from caesura.session.database import Statement
from caesura.session.errors import StoreUnavailable
from caesura.session.records import SessionEnding
from caesura.session.store import Store
from caesura.tools import Executor, Toolbox, ToolCall
from caesura.tools.call import CallEnding, JournalUnavailable
from session.cml_workplace import asked, running
from session.planned import call
from session.workplace import (
    OWNER,
    Gate,
    agents,
    calls_of,
    events,
    eventually,
    spec,
    store_of,
    stored,
    tool,
)
from support.tools.workbench import Journal

OPEN = CallEnding.INTERRUPTED  # it may or may not have had its effects

ON_EACH_DATABASE = True


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "STORE_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(left_calls, "RETRY_SECONDS", 0.001)


class Failing:
    """Lets one write of the store fail, whichever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.left = number
        self._commit = Store.commit
        monkeypatch.setattr(Store, "commit", lambda *given: self._failing(*given))

    async def _failing(self, store: Store, *changes: Statement) -> int:
        self.left -= 1
        if self.left == 0:
            raise StoreUnavailable("database or disk is full")
        return await self._commit(store, *changes)


PLANS = {
    "native": spec('one <<pay {"x": 1}>>\ntwo <<pay {"x": 2}>>\nend', keep_open=False),
    "futures": spec(
        'one <<pay {"x": 1}>>\ntwo <<pay {"x": 2}>>\nthree\nend',
        function_calling="async",
        keep_open=False,
    ),
    "cml": asked(f"one {call('a', 'pay', x=1)}|?a|=a| two {call('b', 'pay', x=2)}|?b|=b| end"),
}


@pytest.mark.parametrize("kind", PLANS)
async def test_a_write_that_fails_repeats_no_call_and_makes_none_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    ran: list[int] = []

    def pay(x: int) -> str:
        """Pay."""
        ran.append(x)
        return f"paid {x}"

    open_calls, failed = 0, 0
    for number in count(1):
        ran.clear()
        with monkeypatch.context() as patched:
            folder = tmp_path / f"{number}"
            async with (running if kind == "cml" else agents)(folder, tool(pay)) as all_agents:
                agent = await all_agents.create(OWNER, PLANS[kind])
                failing = Failing(patched, number)
                told = await events(agent)
                calls = await calls_of(store_of(all_agents), agent.id)
        assert told[-1].data["ending"] == SessionEnding.COMPLETED, (number, told[-1].data)
        endings = [each.result.ending for each in calls if each.result is not None]
        assert len(endings) == 2
        for x, ending in enumerate(endings, 1):
            assert ending in (CallEnding.SUCCEEDED, OPEN), number
            assert ran.count(x) == 1 or (ending is OPEN and not ran.count(x))
        open_calls += endings.count(OPEN)
        if failing.left > 0:
            break
        failed += 1
    assert 0 < open_calls < failed, "only what had begun is open"


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_call_that_was_left_is_gone_on_with_when_the_store_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idempotent: bool
) -> None:
    gate = Gate()
    waits = tool(gate.tool, at_end="finish", idempotent=idempotent)
    async with running(tmp_path / "db", waits) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'wait', x=1)} bye"))
        await events(agent)
        await eventually(lambda: gate.ran)
        Failing(monkeypatch, 1)
        gate[1].set()

        async def finished() -> bool:
            return not await store_of(all_agents).left_calls()

        await stored(finished)
        (record,) = await calls_of(store_of(all_agents), agent.id)
    assert record.result is not None
    assert record.result.ending is (CallEnding.SUCCEEDED if idempotent else OPEN)
    assert gate.ran == ([1, 1] if idempotent else [1])


async def test_a_left_call_that_goes_on_is_not_begun_again_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    waits = tool(gate.tool, at_end="finish", idempotent=True)
    async with running(tmp_path / "db", waits) as all_agents:
        for x in (1, 2):
            agent = await all_agents.create(OWNER, asked(f"{call('a', 'wait', x=x)} bye"))
            await events(agent)
            await eventually(lambda x=x: x in gate.ran)
        Failing(monkeypatch, 1)
        gate[1].set()

        async def one_is_left() -> bool:
            return len(await store_of(all_agents).left_calls()) == 1

        await stored(one_is_left)
        gate[2].set()

        async def none_is_left() -> bool:
            return not await store_of(all_agents).left_calls()

        await stored(none_is_left)
    assert sorted(gate.ran) == [1, 1, 2]


async def test_a_tool_that_meets_a_failing_store_has_no_result() -> None:
    def ask() -> str:
        """Ask a human; the question cannot be noted."""
        raise StoreUnavailable("database or disk is full")

    executor = Executor(Toolbox({"ask": tool(ask)}), registry=CollectorRegistry())
    with pytest.raises(JournalUnavailable):
        await executor.execute(ToolCall("call_1", "ask", "{}", "sess_1"), Journal())
