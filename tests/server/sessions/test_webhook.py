"""The webhook: signed, repeated until it is heard, across restarts, and never in the way."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import httpx
import openai
import pytest
from pydantic import SecretStr

from caesura.server.sessions.signatures import signing_key
from caesura.server.sessions.webhook import Webhook
from caesura.server.settings import WebhookSection
from caesura.session.agents import Agents
from caesura.session.records import EventType
from caesura.tools.call import Answer
from server.served import human
from session.workplace import OWNER, agents, spec, until

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0IDEyMzQ1"
QUESTION = '<<ask {"question": "well?"}>>\nend'


class Receiver:
    """Receives webhooks; answers with the statuses that it is given, and then with 200."""

    def __init__(self, *statuses: int | Exception) -> None:
        self.requests: list[httpx.Request] = []
        self._statuses = list(statuses)
        self._changed = asyncio.Event()

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self._changed.set()
        status = self._statuses.pop(0) if self._statuses else 200
        if isinstance(status, Exception):
            raise status
        return httpx.Response(status)

    async def wait_for(self, requests: int) -> None:
        async with asyncio.timeout(20):
            while len(self.requests) < requests:
                self._changed.clear()
                await self._changed.wait()


class Clock:
    """Time that passes when it is slept."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


@asynccontextmanager
async def telling(all_agents: Agents, receiver: Receiver, clock: Clock) -> AsyncIterator[None]:
    work = all_agents._work
    section = WebhookSection(url="https://hooks.example/x", secret=SecretStr(SECRET))
    transport = httpx.MockTransport(receiver.handle)
    async with httpx.AsyncClient(transport=transport) as client:
        webhook = Webhook(section, work.store, work.approvals, client, clock.now, clock.sleep)
        task = asyncio.create_task(webhook.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def settled(all_agents: Agents) -> None:
    """Until everything that waits was told."""
    async with asyncio.timeout(20):
        for _ in count():
            if not await all_agents._work.store.unnotified():
                return


async def test_a_question_is_told_once_and_signed(tmp_path: Path) -> None:
    receiver = Receiver()
    async with (
        agents(tmp_path / "db", human()) as all_agents,
        telling(all_agents, receiver, Clock()),
    ):
        agent = await all_agents.create(OWNER, spec(QUESTION))
        await receiver.wait_for(1)
        await settled(all_agents)
    (request,) = receiver.requests
    told = json.loads(request.content)
    assert told["type"] == "approval.requested"
    assert told["approval"]["session_id"] == agent.id
    assert told["approval"]["text"] == "well?"
    assert told["approval"]["user_message"] == QUESTION
    webhooks = openai.OpenAI(api_key="none", webhook_secret=SECRET).webhooks
    webhooks.verify_signature(request.content, dict(request.headers))
    with pytest.raises(openai.InvalidWebhookSignatureError):
        webhooks.verify_signature(request.content + b" ", dict(request.headers))


async def test_it_is_told_again_later_and_later_until_it_is_heard(tmp_path: Path) -> None:
    failure = httpx.ConnectError("refused")
    receiver, clock = Receiver(500, failure, 404, 302), Clock()
    async with (
        agents(tmp_path / "db", human()) as all_agents,
        telling(all_agents, receiver, clock),
    ):
        agent = await all_agents.create(OWNER, spec(QUESTION))
        await until(agent, EventType.ASKED)
        await receiver.wait_for(5)
        await settled(all_agents)
    assert clock.slept == [1, 2, 4, 8]
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


async def test_what_was_not_heard_before_a_restart_is_told_after_it(tmp_path: Path) -> None:
    async with agents(tmp_path / "db", human()) as all_agents:
        agent = await all_agents.create(OWNER, spec(QUESTION))
        await until(agent, EventType.ASKED)
    receiver = Receiver()
    async with (
        agents(tmp_path / "db", human()) as all_agents,
        telling(all_agents, receiver, Clock()),
    ):
        await receiver.wait_for(1)
        await settled(all_agents)
    async with (
        agents(tmp_path / "db", human()) as all_agents,
        telling(all_agents, receiver, Clock()),
    ):
        await all_agents.create(OWNER, spec(QUESTION))
        await receiver.wait_for(2)
        await settled(all_agents)
    sessions = [json.loads(r.content)["approval"]["session_id"] for r in receiver.requests]
    assert sessions[0] == agent.id
    assert len(set(sessions)) == 2, "each is told once"


async def test_an_address_that_never_answers_does_not_stop_a_session(tmp_path: Path) -> None:
    class Silent(Receiver):
        async def handle(self, request: httpx.Request) -> httpx.Response:
            await super().handle(request)
            await asyncio.Event().wait()
            raise AssertionError

    receiver = Silent()
    async with (
        agents(tmp_path / "db", human()) as all_agents,
        telling(all_agents, receiver, Clock()),
    ):
        agent = await all_agents.create(OWNER, spec(QUESTION))
        asked = await until(agent, EventType.ASKED)
        await receiver.wait_for(1)
        await all_agents.answer(
            OWNER, str(asked.data["approval_id"]), Answer(accepted=True, text="yes")
        )
        await until(agent, EventType.OUTPUT, text="heard: yes. end")


def test_a_secret_is_base64_after_its_prefix_and_else_a_text() -> None:
    assert signing_key(SECRET) == b"secret of the test 12345"
    assert signing_key("a text that nobody can guess") == b"a text that nobody can guess"
    for wrong in (
        *("", "whsec_", "whsec_!", "whsec_YWJj", "a text of 23 characters"),
        *("a" * 40, "abcdefg" * 5, "whsec_" + "A" * 40),
    ):
        with pytest.raises(ValueError, match="secret"):
            signing_key(wrong)


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://hooks.example/x", True),
        ("http://localhost:9/x", True),
        ("http://127.0.0.2/x", True),
        ("http://[::1]:80", True),
        ("http://hooks.example/x", False),
        ("http://10.0.0.1", False),
        ("http://localhost.example", False),
        ("http://localhost@hooks.example", False),
        ("http://", False),
    ],
)
def test_questions_leave_the_machine_encrypted_or_as_configured(url: str, fits: bool) -> None:
    if fits:
        WebhookSection(url=url, secret=SecretStr(SECRET))
    else:
        with pytest.raises(ValueError, match="allow_http"):
            WebhookSection(url=url, secret=SecretStr(SECRET))
    WebhookSection(url=url, secret=SecretStr(SECRET), allow_http=True)


class Stubborn(Receiver):
    """Never answers the first question, whose text is known."""

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self._changed.set()
        if b"slow?" in request.content:
            await asyncio.Event().wait()
        return httpx.Response(200)


async def test_a_receiver_that_does_not_answer_keeps_no_other_question_waiting(
    tmp_path: Path,
) -> None:
    receiver = Stubborn()
    async with (
        agents(tmp_path / "db", human()) as all_agents,
        telling(all_agents, receiver, Clock()),
    ):
        await all_agents.create(OWNER, spec('<<ask {"question": "slow?"}>>'))
        await receiver.wait_for(1)
        await all_agents.create(OWNER, spec(QUESTION))
        await receiver.wait_for(2)
        assert b"well?" in receiver.requests[1].content


class Picky(Receiver):
    """Refuses all questions but those whose text is known, and counts who is there at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        status = 200 if b"well?" in request.content else 500
        self.requests.append(request)
        self._changed.set()
        return httpx.Response(status)


async def test_more_questions_than_fit_a_page_hide_none(tmp_path: Path) -> None:
    class Still(Clock):
        async def sleep(self, seconds: float) -> None:
            await asyncio.Event().wait()

    many = 1200
    receiver = Picky()
    async with agents(tmp_path / "db", human()) as all_agents:
        store = all_agents._work.store
        agent = await all_agents.create(OWNER, spec(QUESTION.replace("well?", "first?")))
        asked = await until(agent, EventType.ASKED)
        first = await store.approval(str(asked.data["approval_id"]))
        assert first is not None
        more = [replace(first.question, key=f"{first.question.key}{n}") for n in range(many)]
        await store.commit(*map(store.add_approval, more))
        async with telling(all_agents, receiver, clock := Still()):
            await all_agents.create(OWNER, spec(QUESTION))
            await receiver.wait_for(many + 2)
            assert any(b"well?" in request.content for request in receiver.requests)
            ids = [request.headers["webhook-id"] for request in receiver.requests]
            assert len({*ids}) == len(ids), "none is told again before its time"
            assert 1 < receiver.most <= 16
            clock.seconds += 10**6
            await all_agents.create(OWNER, spec(QUESTION))
            await receiver.wait_for(2 * many + 3)
        assert (
            Counter(request.headers["webhook-id"] for request in receiver.requests)[
                first.question.key
            ]
            == 2
        )


class Hanging(Receiver):
    """Refuses each question once, and then never answers."""

    async def handle(self, request: httpx.Request) -> httpx.Response:
        told_before = {each.headers["webhook-id"] for each in self.requests}
        self.requests.append(request)
        self._changed.set()
        if request.headers["webhook-id"] in told_before:
            await asyncio.Event().wait()
        return httpx.Response(500)


async def test_retries_that_have_no_turn_are_waited_for_and_not_looked_for(tmp_path: Path) -> None:
    receiver, clock = Hanging(), Clock()
    async with agents(tmp_path / "db", human()) as all_agents:
        store = all_agents._work.store
        agent = await all_agents.create(OWNER, spec(QUESTION))
        asked = await until(agent, EventType.ASKED)
        first = await store.approval(str(asked.data["approval_id"]))
        assert first is not None
        more = [replace(first.question, key=f"{first.question.key}{n}") for n in range(19)]
        await store.commit(*map(store.add_approval, more))
        async with telling(all_agents, receiver, clock):
            await receiver.wait_for(28)
            for _ in range(5):
                await store.unnotified()
            slept = len(clock.slept)
            for _ in range(20):
                await store.unnotified()
            assert len(clock.slept) == slept
            assert len(receiver.requests) == 28


async def test_a_question_that_was_answered_meanwhile_is_not_told(tmp_path: Path) -> None:
    receiver = Receiver()
    section = WebhookSection(url="https://hooks.example/x", secret=SecretStr(SECRET))
    async with agents(tmp_path / "db", human()) as all_agents:
        work = all_agents._work
        agent = await all_agents.create(OWNER, spec(QUESTION))
        key = str((await until(agent, EventType.ASKED)).data["approval_id"])
        transport = httpx.MockTransport(receiver.handle)
        async with httpx.AsyncClient(transport=transport) as client:
            webhook = Webhook(section, work.store, work.approvals, client)
            await all_agents.answer(OWNER, key, Answer(accepted=True, text="yes"))
            assert await webhook._post(key) is None
            assert await webhook._post("unknown") is None
    assert not receiver.requests
