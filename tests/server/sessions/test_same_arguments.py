"""Everybody who decides on a call, or is told of it, sees the arguments that its tool gets."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import JsonValue

from caesura.chat.client import SessionsClient
from caesura.chat.questions import advice
from caesura.chat.quoting import question_lines
from caesura.chat.records import EventKind, GivenAnswer
from caesura.tools.context import CallContext
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import PythonTool
from server.served import served
from server.sessions.test_webhook import Clock, Receiver, telling

# As a model writes them: white space, escapes and numbers that not every reader takes as they are.
ARGUMENTS = (
    '{"n": 9223372036854775809, "share": 0.1, "one": 1.0, "zero": -0.0, "big": 1e300}',
    ' { "b" : {"z": [1, {"a": null}], "a": true} , "a": "" } ',
    r'{"path": "C:\\a\u005cb", "text": "line\nline", "hidden": "\u202e\u200b\ud83d\ude00 ü"}',
    json.dumps({"note": "x" * 900, "rows": [{"i": i} for i in range(90)]}),
    "{}",
)


class Recorder(Endpoint):
    """A tool that keeps the arguments that it gets."""

    def __init__(self) -> None:
        settings = PythonTool(type="python", callable="tests:record", approve=True)
        super().__init__(Definition("record", "Record.", ArgumentSchema({})), settings)
        self.got: list[str] = []

    @property
    def provider(self) -> str:
        return "MCP server records"

    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        self.got.append(json.dumps(arguments))
        return "recorded"


@pytest.mark.parametrize("written", ARGUMENTS)
@pytest.mark.parametrize("restarts", [False, True])
async def test_approver_events_webhook_and_tool_have_the_same_arguments(
    tmp_path: Path, written: str, restarts: bool
) -> None:
    tool, receiver = Recorder(), Receiver()
    async with (
        served(tmp_path / "db", tool) as server,
        telling(server.agents, receiver, Clock()),
    ):
        session = await server.session(f"<<record {written}>>\nend", keep_open=False)
        asked = await server.asked()
        await receiver.wait_for(1)
        if not restarts:
            await agree(server.url, session["id"], asked["id"], seen := [])
    if restarts:
        async with served(tmp_path / "db", tool) as server:
            await agree(server.url, session["id"], asked["id"], seen := [])
    (request,) = receiver.requests
    told = json.loads(request.content)["approval"]
    expected = json.dumps(json.loads(written))
    seen += [json.dumps(one["arguments"]) for one in (asked, told)]
    seen += [json.dumps(json.loads(one["arguments_text"])) for one in (asked, told)]
    assert seen == len(seen) * [expected]
    assert tool.got == [expected]
    assert asked["provider"] == told["provider"] == "MCP server records"


async def agree(url: str, session_id: str, approval_id: str, seen: list[str]) -> None:
    """As `caesura chat` does; notes the arguments that it is given and shows."""
    async with SessionsClient(url) as client:
        approval = await client.approval(approval_id)
        shown = "".join(line[2:] for line in question_lines(approval, 40)[1:])
        seen += [json.dumps(approval.arguments), json.dumps(json.loads(shown))]
        assert advice(approval) == "Run record (MCP server records)? y, or n and a reason"
        await client.answer(approval_id, GivenAnswer(accepted=True))
        async for event in client.events(session_id):
            if event.kind is EventKind.ASKED:
                seen.append(json.dumps(event.data["arguments"]))
            elif event.kind is EventKind.CALL:
                seen.append(json.dumps(json.loads(event.text("arguments"))))
