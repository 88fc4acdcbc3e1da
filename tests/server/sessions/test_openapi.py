"""The routes against their own OpenAPI description, with generated requests."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from urllib.parse import unquote

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

from caesura.server.sessions.service import Unavailable
from server.served import application, human, served
from session.workplace import tool
from support.draws import examples

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@dataclass(frozen=True)
class Target:
    """A server with some sessions, in a thread of its own."""

    url: str
    sessions: list[str]
    approval: str


def add(x: int, y: int) -> int:
    """Add."""
    return x + y


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    path = tmp_path_factory.mktemp("openapi") / "db"
    started: SimpleQueue[Target] = SimpleQueue()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with served(path, tool(add), human()) as server:
            waiting = await server.session('<<ask {"question": "well?"}>>\nend')
            over = await server.session("hello", keep_open=False)
            approval = (await server.asked())["id"]
            started.put(Target(server.url, [waiting["id"], over["id"]], approval))
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    yield started.get(timeout=60)
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


DESCRIBED = schemathesis.openapi.from_dict(application(Unavailable("not started"), []).openapi())
OPERATIONS = [
    found.ok()
    for found in DESCRIBED.include(path_regex="^/v1/(sessions|approvals)").get_all_operations()
]


@pytest.mark.parametrize("known", [True, False], ids=["known-ids", "any-ids"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_as_described(operation: APIOperation, known: bool, target: Target) -> None:
    @settings(max_examples=examples(25), suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy())
    def answers(case: Case) -> None:
        if known and "session_id" in case.path_parameters:
            case.path_parameters["session_id"] = target.sessions[len(str(case.query)) % 2]
        if known and "approval_id" in case.path_parameters:
            case.path_parameters["approval_id"] = target.approval
        # No route has such a path: the answer is not ours.
        ids = [unquote(str(value)) for value in case.path_parameters.values()]
        assume(not any("\n" in value for value in ids))
        # A stream of a session that stays open has no end, and a wait may be long.
        if isinstance(case.body, dict):
            case.body.pop("stream", None)
        if operation.path.endswith("/events"):
            case.query |= {"stream": "false", "wait_seconds": 0}
        case.call_and_validate(base_url=target.url, checks=CHECKS, timeout=20)

    answers()
