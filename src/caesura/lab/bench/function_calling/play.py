"""Plays one case on an engine: the session writes the known answer, the calls sleep."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from caesura.cml import Call, KnownTools, Mode
from caesura.engine.model.cml_format import CmlFormat
from caesura.lab.bench.function_calling.call_plan import ARGUMENT
from caesura.lab.bench.function_calling.cases import Case
from caesura.lab.bench.function_calling.executions import Executions, signature
from caesura.lab.bench.function_calling.plans import (
    ANSWER,
    CallTokens,
    Order,
    TimedCall,
    fitting_tools,
)
from caesura.lab.bench.function_calling.records import Identity, Observer, Played, case_run
from caesura.session import Sampling, Session, TokenEngine
from caesura.session.calling import CallingSession, CallIssued, Checkpoint, Driver, Paused

TOOL_TOKENS = 1024
"""Room for tool definitions in a prompt, beyond those that are called."""


_FREE_TOKENS = 400
"""What a model may write that decides by itself."""


@dataclass(frozen=True, slots=True)
class Task:
    """One case in one mode.

    Attributes:
        suite: its name.
        case: what is asked.
        calls: the known answer, in the order in which calls are preferred.
        mode: in which it is answered.
        repetition: number of the repetition.
        order: of the calls.
        eager_bundles: in `sync_parallel` a call is executed at its `[END]`, instead of with
            its bundle.
    """

    suite: str
    case: Case
    calls: Sequence[TimedCall]
    mode: Mode
    repetition: int = 0
    order: Order = Order.LONGEST_FIRST
    eager_bundles: bool = False


class KnownDurations:
    """`Expectations` that are right: how long each call will take is known."""

    def __init__(self, calls: Sequence[TimedCall]) -> None:
        self._of_id = {known.call.id: known.seconds for known in calls}
        self._of_call = {signature(known.call): known.seconds for known in calls}

    def expected_seconds(self, call: Call) -> float | None:
        """See `Expectations.expected_seconds`."""
        return self._of_id.get(call.id, self._of_call.get(signature(call)))

    def record(self, call: Call, seconds: float) -> None:
        """Nothing is to be learned."""


class Stage:
    """An engine, and how tokens are made for it.

    Args:
        engine: generates.
        codec: of its model.
        tokens: of its model.
    """

    def __init__(self, engine: TokenEngine, codec: CmlFormat, tokens: CallTokens) -> None:
        self._engine = engine
        self._codec = codec
        self._tokens = tokens

    def prompt(self, task: Task) -> list[int]:
        """The tokens of the question in the mode, with as many tools as fit."""
        expected: dict[str, float] = {}
        for call in task.calls:
            known = expected.get(call.call.name, 0.0)
            expected[call.call.name] = max(known, round(call.seconds, 2))
        tools = fitting_tools(task.case, self._tokens, TOOL_TOKENS)
        messages: list[dict[str, JsonValue]] = [{"role": "user", "content": task.case.question}]
        return self._codec.prompt(messages, tools, task.mode, expected)

    async def read_ahead(self, prompt: Sequence[int]) -> None:
        """Have the prompt in the prefix cache, but for its last block."""
        async with await Session.open(self._engine, prompt, Sampling(max_tokens=1)) as session:
            async for _ in session:
                pass

    async def play(self, task: Task, prompt: Sequence[int]) -> Played:
        """Run the case to its end.

        Raises:
            SessionError: the engine failed.
        """
        session = CallingSession(
            self._engine,
            self._codec,
            Checkpoint(tuple(prompt)),
            self._sampling(task, prompt),
            mode=task.mode,
            tools=KnownTools({call.call.name for call in task.calls}),
            expectations=KnownDurations(task.calls),
            clock=time.perf_counter,
        )
        together = task.mode is Mode.SYNC_PARALLEL and not task.eager_bundles
        executions = Executions(task.calls, time.perf_counter, together=together)
        driver = Driver(session, executions.execute, clock=time.perf_counter)
        observer = Observer()
        try:
            async for event in driver.events():
                observer.note(event)
                if isinstance(event, CallIssued):
                    executions.hold()
                elif isinstance(event, Paused):
                    executions.release()
        finally:
            await session.close()
        identity = Identity(task.suite, task.mode, task.case.id, task.repetition, task.order.value)
        run = case_run(
            identity,
            driver.timeline,
            observer,
            task.calls,
            executions.of_call,
            task.case.answer or (ANSWER.strip(),),
            self._tokens,
        )
        return Played(run, driver.timeline, executions.of_call)

    def _sampling(self, task: Task, prompt: Sequence[int]) -> Sampling:
        if not task.case.is_forced:
            return Sampling(max_tokens=_FREE_TOKENS)
        plan = self._tokens.plan(task.calls, task.mode, len(prompt))
        call_tokens = sum(len(self._tokens.call(call.call)) for call in task.calls)
        traps = 2 * (len(task.calls) + 1)
        most = call_tokens + traps + len(plan.answer) + 8
        return Sampling(max_tokens=most, extra={ARGUMENT: plan.to_argument()})
