"""Plays cases with futures: the sessions of the server, whose model knows its own format only."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from prometheus_client import CollectorRegistry
from pydantic import JsonValue

from caesura.cml import Mode
from caesura.lab.bench.function_calling.executions import Executions, UnknownCall
from caesura.lab.bench.function_calling.futures_writer import FuturesWriter
from caesura.lab.bench.function_calling.native_format import NativeFormat
from caesura.lab.bench.function_calling.plans import (
    TOOL_TOKENS,
    CallTokens,
    ModeCase,
    fitting_tools,
)
from caesura.lab.bench.function_calling.records import PlayedCase, case_run
from caesura.lab.bench.function_calling.scripted_engine import ScriptedEngine
from caesura.session import Sampling, Session, TokenEngine
from caesura.session.agents import Agents
from caesura.session.approvals import Approvals
from caesura.session.calling import Ending, Timeline
from caesura.session.dialogue import Dialogue
from caesura.session.kinds import first_prompt
from caesura.session.records import EventType, Protocol, SessionEnding, SessionSpec
from caesura.session.store import Store
from caesura.session.workplace import Workplace
from caesura.tools.context import CallContext
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.executor import Executor
from caesura.tools.failure import AttemptFailed
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import CommonSettings
from caesura.tools.toolbox import Toolbox

_OWNER = "bench"
_MOST_TURNS = 1000
_MOST_TOKENS = 1024  # of a turn


class FuturesPlayer:
    """Plays cases in sessions that are stored on disk, as those of a server are.

    Args:
        engine: generates.
        dialogue: of its model, with a parser of tool calls.
        form: how its model writes.
        tokens: says how many tools fit into a prompt, as in the other arms.
    """

    def __init__(
        self, engine: TokenEngine, dialogue: Dialogue, form: NativeFormat, tokens: CallTokens
    ) -> None:
        self._engine = engine
        self._dialogue = dialogue
        self._format = form
        self._tokens = tokens
        self._stack = AsyncExitStack()
        self._tools: dict[str, Endpoint] = {}
        self._executor = Executor(Toolbox(self._tools), registry=CollectorRegistry())

    async def __aenter__(self) -> Self:
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="caesura-futures-")))
        self._store = Store(folder / "sessions.db")
        self._stack.callback(self._store.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def play_alone(self, case: ModeCase) -> PlayedCase:
        """Play a case whose prompt is in the prefix cache, but for its last block."""
        executions = Executions(case.calls, time.perf_counter, together=False)
        self._tools.clear()
        self._tools.update(_tools(case, self._tokens, executions))
        writer = FuturesWriter(self._format, case.calls)
        work = Workplace(
            ScriptedEngine(self._engine, writer),
            self._dialogue,
            self._executor,
            self._store,
            Approvals(self._store),
        )
        spec = SessionSpec.model_validate(
            {
                "messages": [{"role": "user", "content": case.case.question}],
                "max_tokens": _MOST_TOKENS,
                "max_turns": _MOST_TURNS,
                "temperature": 0,
                "function_calling": Mode.ASYNC,
                "protocol": Protocol.FUTURES,
                "keep_open": False,
            }
        )
        definitions = self._executor.definitions()
        await self._read_ahead(first_prompt(work.formats.settled(spec), definitions, work))
        agents = Agents(work)
        began_at = time.perf_counter()
        try:
            agent = await agents.create(_OWNER, spec)
            told = [event async for event in agent.events.follow()]
        finally:
            await agents.stop()
        texts = [str(one.data["text"]) for one in told if one.type is EventType.OUTPUT]
        completed = agent.ending is SessionEnding.COMPLETED
        timeline = _timeline(began_at, writer, executions, texts[-1:], completed=completed)
        made = len(executions.of_call) == len(case.calls) == len(timeline.calls)
        run = case_run(
            case,
            timeline,
            executions.of_call,
            answered_at=timeline.ended_at or began_at,
            correct=completed and made and all(text in timeline.text for text in case.answer),
        )
        return PlayedCase(run, timeline, executions.of_call)

    async def _read_ahead(self, prompt: Sequence[int]) -> None:
        async with await Session.open(self._engine, prompt, Sampling(max_tokens=1)) as session:
            async for _ in session:
                pass


class _KnownTool(Endpoint):
    """A tool whose calls sleep for as long as they are known to take."""

    def __init__(self, definition: Definition, seconds: float, executions: Executions) -> None:
        super().__init__(definition, CommonSettings(expected_seconds=seconds))
        self._executions = executions

    def check(self, arguments: Mapping[str, JsonValue]) -> None:
        """Known arguments need no check: some schemas of the leaderboard are not sound."""

    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        """Sleep, and give the result."""
        try:
            known: Any = dict(arguments)
            return await self._executions.execute_named(self.definition.name, known)
        except UnknownCall as error:
            raise AttemptFailed(str(error)) from error


def _tools(case: ModeCase, tokens: CallTokens, executions: Executions) -> dict[str, Endpoint]:
    longest: dict[str, float] = {}
    for one in case.calls:
        longest[one.call.name] = max(longest.get(one.call.name, 0.0), one.seconds)
    tools: dict[str, Endpoint] = {}
    for tool in fitting_tools(case.case, tokens, TOOL_TOKENS):
        function = tool["function"]
        name = function["name"]
        schema = ArgumentSchema(function["parameters"], lenient=True)
        definition = Definition(name, function["description"], schema)
        seconds = max(0.01, round(longest.get(name, 1.0), 2))
        tools[name] = _KnownTool(definition, seconds, executions)
    return tools


def _timeline(
    began_at: float,
    writer: FuturesWriter,
    executions: Executions,
    answer: Sequence[str],
    *,
    completed: bool,
) -> Timeline:
    timeline = Timeline(began_at, writer.answered_at, writer.first_token_at)
    timeline.ending = Ending.COMPLETED if completed else Ending.FAILED
    timeline.text = "".join(answer)
    timeline.traps = writer.awaited
    timeline.generated_tokens = writer.tokens
    timeline.spans[-1].ended_at = writer.answered_at
    for span in writer.spans:
        done = executions.of_call.get(span.id or "")
        if done is not None:
            span.started_at, span.finished_at = done.began_at, done.ended_at
    timeline.calls = writer.spans
    return timeline
