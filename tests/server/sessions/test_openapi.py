"""The routes against their own OpenAPI description, with generated requests of several clients."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from caesura.server.dashboard.dashboard import Dashboard
from caesura.server.sessions.service import Unavailable
from caesura.session.agents import Agents
from caesura.session.limits import Limits
from server.served import KEYS, FlatDialogue, application, body, human
from session.workplace import tool, workplace
from support.dashboard.stage import make_app
from support.dashboard.stage import served as served_app
from support.draws import examples
from support.waiting import poll

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SECRET = "rhubarb"


class Caller(Enum):
    """Whose key a request has."""

    OWNER = KEYS[0]
    TENANT = KEYS[1]
    STRANGER = "no key of this server"
    NOBODY = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.value is None else {"Authorization": f"Bearer {self.value}"}


@dataclass(frozen=True)
class Target:
    """A server with some sessions of the owner, in a thread of its own."""

    url: str
    sessions: list[str]
    approval: str

    def get(self, path: str, caller: Caller = Caller.OWNER) -> Any:
        answer = httpx.get(f"{self.url}{path}", headers=caller.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()


def add(x: int, y: int) -> int:
    """Add."""
    return x + y


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    path = tmp_path_factory.mktemp("openapi") / "db"
    started: SimpleQueue[str] = SimpleQueue()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(path, started, stop),))
    thread.start()
    try:
        yield with_sessions(started.get(timeout=60))
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def serve(path: Path, started: "SimpleQueue[str]", stop: asyncio.Event) -> None:
    limits = Limits(open_sessions_per_owner=10**6, sessions_per_minute=10**6)
    async with workplace(path, tool(add), human(), limits=limits) as parts:
        work = replace(parts, dialogue=FlatDialogue())
        agents = Agents(work)
        await agents.start()
        try:
            async with served_app(make_app(work, agents, keys=KEYS)) as url:
                started.put(url)
                await stop.wait()
                await agents.stop()
        finally:
            await agents.stop()


def with_sessions(url: str) -> Target:
    """Make a session that asks, and one that is over."""

    def make(plan: str, **fields: Any) -> str:
        spec = body(plan, metadata={"for": SECRET}, **fields)
        made = httpx.post(f"{url}/v1/sessions", json=spec, headers=Caller.OWNER.headers)
        assert made.status_code == 201, made.text
        return made.json()["id"]

    waiting = make(f'{SECRET} <<ask {{"question": "{SECRET}?"}}>>\n{SECRET}')
    over = make(f"hello {SECRET}", keep_open=False)
    target = Target(url, [waiting, over], "")
    poll(lambda: target.get(f"/v1/sessions/{over}")["phase"] == "ended")
    poll(lambda: target.get("/v1/approvals?state=waiting")["data"])
    return replace(target, approval=target.get("/v1/approvals")["data"][0]["id"])


def described() -> list[APIOperation]:
    """All of our own routes."""
    app = application(Unavailable("not started"), [])
    Dashboard().attach(app)
    found = schemathesis.openapi.from_dict(app.openapi())
    ours = found.include(path_regex="^/v1/(sessions|approvals|caesura)").get_all_operations()
    return [operation.ok() for operation in ours]


OPERATIONS = described()
ENDLESS = "/v1/caesura/overview/events"
OF_OWNERS = [operation for operation in OPERATIONS if operation.path != ENDLESS]


def of_each(operations: list[APIOperation]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("operation", operations, ids=lambda operation: operation.label)


def generated(operation: APIOperation, count: int):
    """Draws requests. Ids that end in a line break are no path, and the answer not ours."""

    def decorate(check):
        @settings(max_examples=examples(count), suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy())
        def draw(case: Case) -> None:
            ids = [unquote(str(value)) for value in case.path_parameters.values()]
            assume(not any("\n" in value for value in ids))
            # A stream of a session that stays open has no end, and a wait may be long.
            if isinstance(case.body, dict):
                case.body.pop("stream", None)
            if operation.path.endswith("{session_id}/events"):
                case.query |= {"stream": "false", "wait_seconds": 0}
            check(case)

        return draw

    return decorate


def with_known_ids(case: Case, target: Target) -> None:
    if "session_id" in case.path_parameters:
        case.path_parameters["session_id"] = target.sessions[len(str(case.query)) % 2]
    if "approval_id" in case.path_parameters:
        case.path_parameters["approval_id"] = target.approval


@pytest.mark.parametrize("known", [True, False], ids=["known-ids", "any-ids"])
@of_each(OF_OWNERS)
def test_every_answer_is_as_described(operation: APIOperation, known: bool, target: Target) -> None:
    @generated(operation, 25)
    def answers(case: Case) -> None:
        if known:
            with_known_ids(case, target)
        case.call_and_validate(
            base_url=target.url, headers=Caller.OWNER.headers, checks=CHECKS, timeout=20
        )

    answers()


@of_each(OF_OWNERS)
def test_another_tenant_sees_and_changes_nothing(operation: APIOperation, target: Target) -> None:
    before = [target.get(f"/v1/sessions/{session}") for session in target.sessions]

    @generated(operation, 15)
    def answers(case: Case) -> None:
        with_known_ids(case, target)
        answer = case.call_and_validate(
            base_url=target.url, headers=Caller.TENANT.headers, checks=CHECKS, timeout=20
        )
        assert SECRET not in answer.text
        if case.path_parameters:
            assert answer.status_code in (400, 404)
        else:
            assert not any(known in answer.text for known in (*target.sessions, target.approval))

    answers()
    assert [target.get(f"/v1/sessions/{session}") for session in target.sessions] == before


@pytest.mark.parametrize("caller", [Caller.NOBODY, Caller.STRANGER])
@of_each(OPERATIONS)
def test_without_a_key_nothing_is_answered(
    operation: APIOperation, caller: Caller, target: Target
) -> None:
    @generated(operation, 5)
    def answers(case: Case) -> None:
        with_known_ids(case, target)
        answer = case.call_and_validate(
            base_url=target.url, headers=caller.headers, checks=CHECKS, timeout=20
        )
        assert answer.status_code == 401

    answers()
