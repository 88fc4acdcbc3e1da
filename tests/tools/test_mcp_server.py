import asyncio
import json
import os
import runpy
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import types
from mcp.server import Server, ServerRequestContext
from mcp.server.mcpserver import MCPServer
from starlette.types import Receive, Scope, Send

from caesura.errors import ConfigurationError
from caesura.tools import Answer, CallEnding, QuestionKind, mcp_server
from caesura.tools.mcp_tools import name_for_model
from support.tools.workbench import Workbench, call, served, workbench
from support.waiting import HANG_SECONDS

PROGRAM = Path(__file__).parent / "servers" / "mcp_server.py"
PROCESS = f'[mcp.local]\ncommand = "{sys.executable}"\nargs = ["{PROGRAM}"]\n'


@pytest.fixture(scope="module")
async def process(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workbench]:
    """One server process for the tests that leave it as it is."""
    settings = 'env = { GREETING = "${WORD}" }\n[mcp.local.settings.huge]\nmax_result_bytes = 300\n'
    settings += "[mcp.local.settings.hang]\ntimeout_seconds = 0.2\n"
    settings = "follow_changes = true\n" + settings
    directory = tmp_path_factory.mktemp("process")
    async with workbench(directory, PROCESS + settings, {"WORD": "hello"}) as bench:
        yield bench


@pytest.fixture(autouse=True)
def _fresh_journal(request: pytest.FixtureRequest) -> None:
    if "process" in request.fixturenames:
        journal = request.getfixturevalue("process").journal
        for kept in (journal.answers, journal.dispatched, journal.questions, journal.reports):
            kept.clear()
        journal.asked.clear()
        journal.reply = None


async def test_a_tool_of_a_process_is_called(process: Workbench) -> None:
    result = await process.run("local_add", '{"a": 1, "b": 2}')
    assert json.loads(result.content) == {"total": 3}
    assert len(process.journal.dispatched) == 1
    (definition,) = process.executor.definitions(["local_add"])
    assert "Add two numbers." in str(definition)


async def test_arguments_are_checked_before_anything_is_sent(process: Workbench) -> None:
    result = await process.run("local_add", '{"a": 1}')
    assert result.ending is CallEnding.INVALID
    assert not process.journal.dispatched


async def test_a_process_has_the_environment_that_it_was_given(process: Workbench) -> None:
    assert (await process.run("local_environment", '{"name": "GREETING"}')).content == "hello"
    assert "not set" in (await process.run("local_environment", '{"name": "PWD"}')).content


async def test_a_tool_that_fails_says_why(process: Workbench) -> None:
    result = await process.run("local_fail", '{"message": "no"}')
    assert result.ending is CallEnding.FAILED


async def test_what_is_not_text_is_described(process: Workbench) -> None:
    assert (await process.run("local_picture")).content == "[image, image/png, 24 bytes]"


async def test_a_long_result_is_cut(process: Workbench) -> None:
    result = await process.run("local_huge", '{"size": 100000}')
    assert result.cut
    assert len(result.content) <= 300


async def test_a_tool_that_hangs_is_given_up_and_its_server_lives(process: Workbench) -> None:
    assert (await process.run("local_hang")).ending is CallEnding.TIMED_OUT
    assert (await process.run("local_add", '{"a": 1, "b": 2}')).ending is CallEnding.SUCCEEDED


async def test_progress_is_reported(process: Workbench) -> None:
    assert (await process.run("local_slow")).content == "done"
    fractions = [(report[1], report[3]) for report in process.journal.reports]
    assert fractions == [(0.25, "a quarter"), (0.75, "three quarters")]


async def test_progress_that_is_not_finite_is_left_out(process: Workbench) -> None:
    assert (await process.run("local_overflow")).content == "done"
    assert [report[1:] for report in process.journal.reports] == [(None, None, "far")]


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (Answer(True, content={"street": "Kade", "number": 7}), "tea to Kade 7"),
        (Answer(False), "tea stays here"),
    ],
)
async def test_a_question_of_the_server_is_put_to_the_human(
    process: Workbench, answer: Answer, content: str
) -> None:
    process.journal.reply = answer
    result = await process.executor.execute(
        call("local_deliver", '{"what": "tea"}', "c"), process.journal
    )
    assert result.content == content
    (question,) = process.journal.questions
    assert (question.key, question.kind) == ("c:input:0", QuestionKind.INPUT)
    assert question.text == "Where to?"
    assert question.schema is not None
    assert set(question.schema["properties"]) == {"street", "number"}  # type: ignore[arg-type]


async def test_each_question_goes_to_the_human_of_its_own_call(process: Workbench) -> None:
    numbers = {"c1": 1, "c2": 2, "c3": 3}
    for name, number in numbers.items():
        content = {"street": name, "number": number}
        process.journal.answers[f"{name}:input:0"] = Answer(True, content=content)
    calls = [call("local_deliver", '{"what": "tea"}', name) for name in numbers]
    results = [result async for result in process.executor.execute_all(calls, process.journal)]
    assert {result.call_id: result.content for result in results} == {
        name: f"tea to {name} {number}" for name, number in numbers.items()
    }


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_process_that_dies_is_started_again_and_its_call_not_repeated(
    tmp_path: Path,
) -> None:
    marker = tmp_path / "marker"
    async with workbench(tmp_path, PROCESS) as bench:
        first = int((await bench.run("local_process")).content)
        died = await bench.run("local_die", json.dumps({"marker": str(marker)}))
        second = int((await bench.run("local_process")).content)
        assert first != second
        assert is_alive(second)
    assert not is_alive(second)
    assert marker.read_text() == "ran\n"
    assert died.ending is CallEnding.FAILED
    assert json.loads(died.content)["error"]["type"] == "connection_lost"


def names(bench: Workbench) -> list[str]:
    definitions: list[Any] = bench.executor.definitions()
    return sorted(definition["function"]["name"] for definition in definitions)


async def test_a_tool_that_a_server_adds_is_offered(process: Workbench) -> None:
    await process.run("local_grow")
    async with asyncio.timeout(HANG_SECONDS):
        while "local_grown" not in names(process):
            await process.run("local_add", '{"a": 1, "b": 2}')
    assert (await process.run("local_grown")).content == "grown"


async def test_a_call_that_may_be_repeated_is_repeated_on_the_next_process(
    tmp_path: Path,
) -> None:
    marker = tmp_path / "marker"
    settings = "[mcp.local.settings.die]\nidempotent = true\nretries = 1\n"
    async with workbench(tmp_path, PROCESS + settings) as bench:
        died = await bench.run("local_die", json.dumps({"marker": str(marker)}))
    assert (died.ending, died.attempts) == (CallEnding.FAILED, 2)
    assert marker.read_text() == "ran\nran\n"


async def test_only_tools_of_the_allow_list_are_offered(tmp_path: Path) -> None:
    settings = 'tools = ["add", "process"]\nprefix = "my-"\n'
    async with served_mcp() as url:
        opened = workbench(tmp_path, over_http(url) + settings, {"TOKEN": "secret"})
        async with opened as bench:
            assert names(bench) == ["my-add", "my-process"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('tools = ["ad"]\n', "toml:5: mcp.web.tools: the server has no tool 'ad'"),
        ("[mcp.web.settings.ad]\n", "toml:5: mcp.web.settings.ad: the server has no tool 'ad'"),
        (
            'tools = ["add"]\nprefix = ""\n[tools.add]\ntype = "human"\n',
            "toml:1: mcp.web: 'add' is a tool of [tools] too; give one of them another prefix",
        ),
    ],
)
async def test_names_that_cannot_be_meant_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, message: str
) -> None:
    monkeypatch.setattr(mcp_server, "_LATE_SECONDS", 0.1)  # no tool comes later
    settings = "connect_timeout_seconds = 60\n" + settings
    async with served_mcp() as url:
        with pytest.raises(ConfigurationError) as caught:
            async with workbench(tmp_path, over_http(url) + settings, {"TOKEN": "secret"}):
                pass
    assert message in str(caught.value)


async def test_a_long_list_of_tools_comes_in_pages(tmp_path: Path) -> None:
    async def page(
        context: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        number = int((params and params.cursor) or 0)
        tool = types.Tool(name=f"tool.{number}", input_schema={"type": "object"})
        following = str(number + 1) if number < 3 else None
        return types.ListToolsResult(tools=[tool], next_cursor=following)

    server = Server("pages", on_list_tools=page)
    async with served(server.streamable_http_app()) as address:
        opened = workbench(tmp_path, over_http(f"{address}/mcp"), {"TOKEN": "secret"})
        async with opened as bench:
            expected = [name_for_model("web_", f"tool.{number}") for number in range(4)]
            assert names(bench) == sorted(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[mcp.local]\ncommand = "/no/such/program"\n', "toml:1: mcp.local: the server cannot be"),
        (
            '[mcp.local]\ncommand = "/bin/true"\nrequired = true\n',
            "toml:1: mcp.local: the server cannot be used",
        ),
        (
            '[mcp.local]\ncommand = "/bin/cat"\nconnect_timeout_seconds = 0.2\nrequired = true\n',
            "toml:1: mcp.local: the server cannot be used",
        ),
        (
            '[mcp.local]\nurl = "http://127.0.0.1:9/mcp"\nrequired = true\n',
            "toml:1: mcp.local: the server cannot",
        ),
    ],
)
async def test_a_server_that_cannot_be_used_is_an_error_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        async with workbench(tmp_path, text):
            pass
    assert message in str(caught.value)


class Guarded:
    """Lets only requests with the token through."""

    def __init__(self, server: MCPServer) -> None:
        self.app = server.streamable_http_app()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (b"x-token", b"secret") not in scope["headers"]:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self.app(scope, receive, send)


@asynccontextmanager
async def served_mcp(port: int = 0) -> AsyncIterator[str]:
    server: MCPServer = runpy.run_path(str(PROGRAM))["server"]
    async with served(Guarded(server), port) as address:
        yield f"{address}/mcp"


def over_http(url: str) -> str:
    return f'[mcp.web]\nurl = "{url}"\nheaders = {{ X-Token = "${{TOKEN}}" }}\n'


async def test_tools_over_http_are_found_again_after_a_restart(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with served_mcp() as url:
            opened = workbench(tmp_path, over_http(url), {"TOKEN": "secret"})
            bench = await stack.enter_async_context(opened)
            first = await bench.run("web_add", '{"a": 1, "b": 2}')
            assert json.loads(first.content) == {"total": 3}
            bench.journal.reply = Answer(True, content={"street": "Kade", "number": 7})
            delivered = await bench.run("web_deliver", '{"what": "tea"}')
            assert delivered.content == "tea to Kade 7"
        away = await bench.run("web_add", '{"a": 1, "b": 2}')
        assert away.ending is CallEnding.FAILED
        await stack.enter_async_context(served_mcp(int(url.split(":")[2].partition("/")[0])))
        again = await bench.run("web_add", '{"a": 2, "b": 2}')
        assert json.loads(again.content) == {"total": 4}


async def test_a_server_that_refuses_the_token_cannot_be_used(tmp_path: Path) -> None:
    async with served_mcp() as url:
        settings = over_http(url) + "required = true\n"
        with pytest.raises(ConfigurationError, match=r"toml:1: mcp.web: the server cannot"):
            async with workbench(tmp_path, settings, {"TOKEN": "wrong"}):
                pass


@pytest.mark.parametrize("where", ["process", "events", "json"])
async def test_a_message_that_is_too_long_fails_its_call_and_no_other(
    tmp_path: Path, where: str
) -> None:
    limit = "max_message_bytes = 65536\n"
    async with AsyncExitStack() as stack:
        if where == "process":
            prefix, text = "local", PROCESS + limit
        else:
            server: MCPServer = runpy.run_path(str(PROGRAM))["server"]
            app = server.streamable_http_app(json_response=where == "json")
            address = await stack.enter_async_context(served(app))
            prefix, text = "web", f'[mcp.web]\nurl = "{address}/mcp"\n{limit}'
        bench = await stack.enter_async_context(workbench(tmp_path, text))
        slow = asyncio.create_task(bench.run(f"{prefix}_slow"))
        too_long = await bench.run(f"{prefix}_huge", '{"size": 200000}')
        assert too_long.ending is CallEnding.FAILED
        assert "65536" in too_long.content
        assert (await bench.run(f"{prefix}_huge", '{"size": 10000}')).ending is CallEnding.SUCCEEDED
        assert (await slow).content == "done"
