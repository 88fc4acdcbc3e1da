import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mcp import Client, MCPError, StdioServerParameters, types

from caesura.tools import Answer, CallContext, CallResult
from caesura.tools.call import CallJournal, ToolCall
from caesura.tools.deadline import Deadline
from caesura.tools.mcp_elicitation import Elicitation
from support.tools.workbench import Journal, call

PROGRAM = Path(__file__).parent / "servers" / "mcp_server.py"
KADE = Answer(True, content={"street": "Kade", "number": 7})


async def no_steps(call: ToolCall, journal: CallJournal) -> CallResult:
    raise AssertionError("no tool here has steps")


@asynccontextmanager
async def older_client(elicitation: Elicitation) -> AsyncIterator[Client]:
    """A client that speaks the protocol as it was before 2026-07-28."""
    process = StdioServerParameters(command=sys.executable, args=[str(PROGRAM)])
    async with Client(
        process, mode="legacy", elicitation_callback=elicitation.answer, cache=None
    ) as client:
        yield client


async def delivered(client: Client, elicitation: Elicitation, journal: Journal, name: str) -> str:
    context = CallContext(
        call("deliver", call_id=name),
        {},
        1,
        journal,
        ask=journal.ask,
        execute_step=no_steps,
        deadline=Deadline(0),
    )
    try:
        with elicitation.during(context):
            result = await client.call_tool("deliver", {"what": name})
    except MCPError as error:
        return str(error)
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    return block.text


async def test_a_question_whose_schema_cannot_be_used_is_not_put() -> None:
    elicitation, journal = Elicitation(), Journal()
    context = CallContext(
        call("deliver"),
        {},
        1,
        journal,
        ask=journal.ask,
        execute_step=no_steps,
        deadline=Deadline(0),
    )
    for schema in ({"$ref": "http://example.com/x"}, {"properties": {"x": {"type": "objec"}}}):
        params = types.ElicitRequestFormParams(message="?", requested_schema=schema)
        with elicitation.during(context):
            answer = await elicitation.answer(None, params)  # type: ignore[arg-type]
        assert isinstance(answer, types.ErrorData)
        assert "requestedSchema" in answer.message
    assert not journal.questions


async def test_an_older_server_asks_only_while_it_is_clear_which_call_it_asks_for() -> None:
    elicitation, journal = Elicitation(), Journal()
    async with older_client(elicitation) as client:
        tea = asyncio.create_task(delivered(client, elicitation, journal, "tea"))
        await journal.asked.wait()
        milk = await delivered(client, elicitation, journal, "milk")
        assert "cannot be told which call" in milk
        journal.answer("tea:input:0", KADE)
        assert await tea == "tea to Kade 7"
        assert [question.key for question in journal.questions] == ["tea:input:0"]

        journal.reply = Answer(True, content=["no", "object"])
        assert "does not fit" in await delivered(client, elicitation, journal, "bread")
