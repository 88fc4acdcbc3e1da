"""Answers that get lost, and clients that ask again by themselves: whatever happens once."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from caesura.server.sessions.returning import ANSWERED_SECONDS, GRACE_SECONDS, RETRIES_HEADER
from caesura.session.agents import Agents
from caesura.session.records import EventType
from server.served import Served, human, served
from session.workplace import eventually, tool, until
from support.draws import examples, seed
from support.servers.lossy import CASE, Lossy, lossy

CUTS = examples(25)
ROUTES = ("chat", "responses")
AGAIN = {RETRIES_HEADER: "1"}
FIRST = {RETRIES_HEADER: "0"}
Ask = Callable[[openai.AsyncOpenAI, str, str], Awaitable[str]]


def pays(paid: Counter[str]) -> Any:
    """A tool that must not run twice."""

    def pay(order: str) -> str:
        """Pay."""
        paid[order] += 1
        return f"paid {order}"

    return tool(pay)


def asked(route: str, plan: str, case: str, **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": plan}
    question = {"messages": [message]} if route == "chat" else {"input": [message]}
    body = {"caesura": {"tools": "all"}}
    return {"model": "demo", "extra_body": body, "extra_headers": {CASE: case}, **question, **more}


async def answer(client: openai.AsyncOpenAI, route: str, plan: str, case: str) -> str:
    """The answer's text."""
    if route == "chat":
        completion = await client.chat.completions.create(**asked(route, plan, case))
        return str(completion.choices[0].message.content)
    return (await client.responses.create(**asked(route, plan, case))).output_text


async def streamed(client: openai.AsyncOpenAI, route: str, plan: str, case: str) -> str:
    """The text of a stream. The client asks again for its beginning; for the rest, its user."""
    question = asked(route, plan, case, stream=True)
    question["extra_headers"]["Idempotency-Key"] = case
    while True:
        pieces, complete = [], False
        try:
            if route == "chat":
                async for chunk in await client.chat.completions.create(**question):
                    pieces.append(chunk.choices[0].delta.content or "")
                    complete = complete or chunk.choices[0].finish_reason is not None
            else:
                async for event in await client.responses.create(**question):
                    if event.type == "response.output_text.delta":
                        pieces.append(event.delta)
                    complete = complete or event.type == "response.completed"
        except (openai.APIConnectionError, httpx2.TransportError):
            continue
        if complete:  # a stream that is cut between two events has an end like any other
            return "".join(pieces)


def plan(order: str) -> str:
    return f"<<pay {json.dumps({'order': order})}>>\nend"


def client_of(proxy: Lossy, server: Served) -> openai.AsyncOpenAI:
    """OpenAI's client as it is."""
    client = openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none")
    server.clients.push_async_callback(client.close)
    return client


@pytest.mark.fuzz
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("ask", [answer, streamed])
async def test_an_answer_that_is_cut_after_any_byte_is_there_for_the_next_request(
    tmp_path: Path, route: str, ask: Ask
) -> None:
    paid: Counter[str] = Counter()
    async with (
        served(tmp_path / "db", pays(paid), grace_seconds=GRACE_SECONDS) as server,
        lossy(server.url) as proxy,
    ):
        client = client_of(proxy, server)
        said = await ask(client, route, plan("000000"), "whole")
        assert "paid 000000" in said
        length = proxy.bytes["whole"]
        drawn = random.Random(seed()).sample(range(length), min(CUTS, length))
        cases = {f"{n + 1:06}": n for n in {0, length - 1, *drawn}}
        proxy.cuts.update(cases)
        answers = await asyncio.gather(*(ask(client, route, plan(case), case) for case in cases))
        assert paid == Counter({"000000": 1} | dict.fromkeys(cases, 1))
        assert answers == [said.replace("000000", case) for case in cases]
        assert not proxy.cuts
        made = await server.agents.sessions("anonymous", limit=10**6)
        assert len(made) == 1 + len(cases)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("ask", [answer, streamed])
async def test_a_client_that_is_cut_off_finds_its_run_where_it_was(
    tmp_path: Path, route: str, ask: Ask
) -> None:
    ran, go_on = [], asyncio.Event()

    async def pay(order: str) -> str:
        """Pay."""
        ran.append(order)
        await go_on.wait()
        return f"paid {order}"

    async with (
        served(tmp_path / "db", tool(pay), grace_seconds=GRACE_SECONDS) as server,
        lossy(server.url) as proxy,
    ):

        async def it_is_paid() -> None:
            await eventually(lambda: ran)

        proxy.moments["a"] = it_is_paid
        asking = asyncio.create_task(ask(client_of(proxy, server), route, plan("1"), "a"))
        await eventually(lambda: ran)
        (agent,) = server.agents.running
        if ask is answer:  # without a key it waits for its client, and generates nothing
            await eventually(lambda: agent.held)
            await eventually(lambda: not agent.held)
        go_on.set()
        assert "paid 1" in await asking
        assert ran == ["1"]
        assert len(await server.agents.sessions("anonymous")) == 1


async def test_a_run_waits_for_its_client_and_then_ends(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human(), grace_seconds=0.01) as server:
        asking = asyncio.create_task(_sent(server, '<<ask {"question": "well?"}>>', FIRST))
        await server.asked()
        (agent,) = server.agents.running
        asking.cancel()
        session = await server.until(agent.id, phase="ended")
        assert (session["ending"], session["held"]) == ("cancelled", True)


async def test_a_session_that_its_user_has_paused_stays_paused(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human(), grace_seconds=GRACE_SECONDS) as server:
        returning = server.service.returning
        asking = asyncio.create_task(_sent(server, '<<ask {"question": "well?"}>>', FIRST))
        await server.asked()
        (agent,) = server.agents.running
        await agent.hold(True)
        asking.cancel()
        await eventually(lambda: agent.id in returning._left)
        timer = returning._left[agent.id].timer
        again = asyncio.create_task(_sent(server, '<<ask {"question": "well?"}>>', AGAIN))
        await eventually(lambda: agent.id not in returning._left)
        assert timer.cancelled()
        assert agent.held
        await agent.cancel()
        assert (await again).status_code == 409


async def test_a_run_that_somebody_still_reads_goes_on(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server:
        asked_for = '<<ask {"question": "well?"}>>\nend'
        first = asyncio.create_task(_sent(server, asked_for, FIRST))
        question = await server.asked()
        readers = server.service.returning._readers
        again = asyncio.create_task(_sent(server, asked_for, AGAIN))
        await eventually(lambda: readers[question["session_id"]] == 2)
        first.cancel()
        await eventually(lambda: readers[question["session_id"]] == 1)
        given = {"accepted": True, "text": "yes"}
        await server.client.post(f"/v1/approvals/{question['id']}", json=given)
        assert "yes" in (await again).text


async def test_of_two_that_are_alike_the_one_that_was_left_is_gone_on_with(tmp_path: Path) -> None:
    async with served(
        tmp_path / "db", human(), grace_seconds=GRACE_SECONDS, open_sessions_per_owner=2
    ) as server:
        asked_for, returning = '<<ask {"question": "well?"}>>\nend', server.service.returning
        asking, agents = [], []
        for number in range(2):
            asking.append(asyncio.create_task(_sent(server, asked_for, FIRST)))
            await eventually(lambda n=number: len(server.agents.running) > n)
            (new,) = (agent for agent in server.agents.running if agent not in agents)
            agents.append(new)
        assert (await _sent(server, asked_for, FIRST)).status_code == 429
        asking[0].cancel()
        await eventually(lambda: agents[0].id in returning._left)
        asking.append(asyncio.create_task(_sent(server, asked_for, AGAIN)))
        await eventually(lambda: agents[0].id not in returning._left)
        await eventually(lambda: returning._readers == {agent.id: 1 for agent in agents})
        for agent in agents:
            await agent.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert len(await server.agents.sessions("anonymous")) == 2


async def test_a_client_that_comes_again_before_its_session_is_made_makes_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid: Counter[str] = Counter()
    create, begun, go_on = Agents.create, asyncio.Event(), asyncio.Event()

    async def slowly(*given: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await create(*given)

    monkeypatch.setattr(Agents, "create", slowly)
    async with served(tmp_path / "db", pays(paid)) as server:
        asking = [asyncio.create_task(_sent(server, plan("1"), FIRST))]
        await begun.wait()
        asked_again = server.service.returning.found
        waiting = asyncio.Event()

        async def found(*given: Any) -> Any:
            waiting.set()
            return await asked_again(*given)

        monkeypatch.setattr(server.service.returning, "found", found)
        asking.append(asyncio.create_task(_sent(server, plan("1"), AGAIN)))
        await waiting.wait()
        go_on.set()
        answers = [(await each).json()["id"] for each in asking]
    assert paid == {"1": 1}
    assert len({*answers}) == 1


async def test_what_was_begun_before_a_restart_is_not_begun_again(tmp_path: Path) -> None:
    ran = []

    async def pay(order: str) -> str:
        """Pay."""
        ran.append(order)
        await asyncio.Event().wait()
        return ""

    async with served(tmp_path / "db", tool(pay)) as server:
        asking = asyncio.create_task(_sent(server, plan("1"), FIRST))
        await eventually(lambda: ran)
        await server.agents.stop()
        assert (await asking).headers["x-should-retry"] == "false"
    async with served(tmp_path / "db", tool(pay)) as server:
        again = await _sent(server, plan("1"), AGAIN)
        assert (again.status_code, again.headers["x-should-retry"]) == (409, "false")
        assert ran == ["1"]


async def test_requests_that_only_look_alike_are_all_carried_out(tmp_path: Path) -> None:
    paid: Counter[str] = Counter()
    now = [1_000_000.0]
    async with served(
        tmp_path / "db", pays(paid), clock=lambda: now[0], open_sessions_per_owner=1
    ) as server:
        for headers in (FIRST, FIRST, {}, {RETRIES_HEADER: "many"}):
            assert (await _sent(server, plan("1"), headers)).status_code == 200
        assert paid["1"] == 4
        # One that was told to come again is new, and one whose answer may have been lost is not.
        held = await server.session("hello")
        assert (await _sent(server, plan("1"), FIRST)).status_code == 429
        await server.client.post(f"/v1/sessions/{held['id']}/cancel")
        ids = [(await _sent(server, plan("1"), AGAIN)).json()["id"] for _ in range(2)]
        assert paid["1"] == 5
        assert len(set(ids)) == 1
        # Nor is it the answer for ever, nor to anything else.
        assert (await _sent(server, plan("2"), AGAIN)).status_code == 200
        now[0] += ANSWERED_SECONDS + 1
        assert (await _sent(server, plan("1"), AGAIN)).status_code == 200
        assert paid == {"1": 6, "2": 1}


async def test_one_key_is_for_one_request_of_one_route(tmp_path: Path) -> None:
    async with served(tmp_path / "db") as server:
        headers, message = {"Idempotency-Key": "k"}, {"content": "so"}
        ids = [(await server.session("hello"))["id"] for _ in range(2)]
        paths = [f"/v1/sessions/{session_id}/messages" for session_id in ids]
        said = [await server.client.post(path, json=message, headers=headers) for path in paths]
        assert [answer.status_code for answer in said] == [202, 422]


async def _sent(server: Served, plan: str, headers: dict[str, str]) -> httpx.Response:
    question = asked("chat", plan, "")
    body = {**question["extra_body"], "model": "demo", "messages": question["messages"]}
    return await server.client.post("/v1/chat/completions", json=body, headers=headers)


@pytest.mark.parametrize("make", [openai.AsyncOpenAI, anthropic.AsyncAnthropic])
async def test_requests_that_are_sent_twice_are_carried_out_once(tmp_path: Path, make: Any) -> None:
    paid: Counter[str] = Counter()
    async with (
        served(tmp_path / "db", human(), pays(paid)) as server,
        lossy(server.url, times=2) as proxy,
    ):
        client = make(base_url=proxy.url, api_key="none")
        server.clients.push_async_callback(client.close)

        async def post(path: str, key: str, **body: Any) -> dict[str, Any]:
            options = {"headers": {"Idempotency-Key": key}}
            return await client.post(path, cast_to=dict[str, Any], body=body, options=options)

        for route, question in (("chat/completions", "messages"), ("responses", "input")):
            message = [{"role": "user", "content": plan(route)}]
            run = {question: message, "model": "demo", "caesura": {"tools": "all"}}
            await post(f"/v1/{route}", f"key {route}", **run)
            assert paid[route] == 1
        messages = [{"role": "user", "content": '<<ask {"question": "well?"}>>\nend'}]
        made = await post("/v1/sessions", "made", messages=messages)
        await post(f"/v1/sessions/{made['id']}/messages", "said", content="so")
        question = await server.asked()
        answered = await post(
            f"/v1/approvals/{question['id']}", "answered", accepted=True, text="yes"
        )
        assert answered["state"] == "answered"
        assert len(await server.agents.sessions("anonymous")) == 3
        agent = await server.agents.agent("anonymous", made["id"])
        await until(agent, EventType.ANSWERED)
        await until(agent, EventType.MESSAGE)
        told = await server.work.store.events(made["id"])
        kinds = Counter(event.type for event in told)
        assert (kinds[EventType.MESSAGE], kinds[EventType.ANSWERED]) == (1, 1)
        assert not await server.work.store.messages(made["id"])


@pytest.mark.fuzz
@pytest.mark.parametrize("make", [openai.AsyncOpenAI, anthropic.AsyncAnthropic])
async def test_sessions_messages_and_answers_survive_a_cut_after_any_byte(
    tmp_path: Path, make: Any
) -> None:
    async with served(tmp_path / "db", human()) as server, lossy(server.url) as proxy:
        client = make(base_url=proxy.url, api_key="none")
        server.clients.push_async_callback(client.close)

        async def post(path: str, case: str, **body: Any) -> dict[str, Any]:
            options = {"headers": {"Idempotency-Key": f"{path} {case}", CASE: case}}
            return await client.post(path, cast_to=dict[str, Any], body=body, options=options)

        async def use(number: int, cut: int) -> None:
            """All three, each of whose answers is cut."""
            case = f"{number:06}"
            proxy.cuts[case] = cut
            messages = [{"role": "user", "content": '<<ask {"question": "well?"}>>\nend'}]
            made = await post("/v1/sessions", case, messages=messages)
            agent = await server.agents.agent("anonymous", made["id"])
            approval = (await until(agent, EventType.ASKED)).data["approval_id"]
            proxy.cuts[case] = cut
            given = {"accepted": True, "text": "yes"}
            assert (await post(f"/v1/approvals/{approval}", case, **given))["state"] == "answered"
            await server.until(made["id"], phase="idle")
            proxy.cuts[case] = cut
            await post(f"/v1/sessions/{made['id']}/messages", case, content=f"so {case}")
            await server.until(made["id"], phase="idle", turns=3)
            told = await server.work.store.events(made["id"])
            assert sum(event.type is EventType.MESSAGE for event in told) == 1
            assert sum(event.type is EventType.ANSWERED for event in told) == 1

        drawn = random.Random(seed()).sample(range(1, 1200), examples(12))
        await asyncio.gather(*(use(number, cut) for number, cut in enumerate([0, *drawn])))
        assert len(await server.agents.sessions("anonymous", limit=10**6)) == 1 + len(drawn)
