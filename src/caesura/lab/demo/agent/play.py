"""Plays a question in one mode, on the engine and with the tools."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from caesura.cml import Mode
from caesura.engine.model.cml_format import CmlFormat
from caesura.lab.demo.agent.execution import Execution
from caesura.lab.demo.agent.questions import Question
from caesura.lab.demo.agent.verdict import mistakes
from caesura.session import Sampling, TokenEngine
from caesura.session.calling import (
    CallingEvent,
    CallingSession,
    CallIssued,
    Checkpoint,
    Driver,
    Durations,
    SpanKind,
    TextWritten,
    Timeline,
    Trapped,
    known_tools,
)
from caesura.session.records import Message
from caesura.tools import Executor

_MOST_TOKENS = 400


@dataclass(slots=True)
class Recording:
    """A question in one mode, as it was answered.

    Attributes:
        question: what was asked.
        mode: what happens at a call.
        timeline: what happened when.
        traps: when the model said that it must wait.
        written: what the model wrote, and when; calls by their ids.
        results: what the tools returned, by call.
        generated_tokens: tokens that the model wrote.
        mistakes: what is wrong with the answer, once it is there.
    """

    question: Question
    mode: Mode
    timeline: Timeline
    traps: list[float] = field(default_factory=list)
    written: list[tuple[float, str]] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
    generated_tokens: int = 0
    mistakes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the question to the end of the answer.

        Raises:
            ValueError: it has not ended.
        """
        if self.timeline.seconds is None:
            raise ValueError("this recording has not ended")
        return self.timeline.seconds

    @property
    def generating_seconds(self) -> float:
        """How long the model wrote, or read what was injected."""
        return sum(
            span.ended_at - span.began_at
            for span in self.timeline.spans
            if span.kind is SpanKind.GENERATING and span.ended_at is not None
        )

    @property
    def tool_seconds(self) -> float:
        """Execution times of all calls, added up."""
        return sum(call.execution_seconds or 0.0 for call in self.timeline.calls)

    def note(self, event: CallingEvent) -> None:
        """Take the next event, after the timeline has."""
        match event:
            case TextWritten(text=text):
                self.written.append((event.at, text))
            case CallIssued(call=call):
                self.written.append((event.at, f" <{call.id}>"))
            case Trapped():
                self.traps.append(event.at)
            case _:
                pass


class Stage:
    """A started engine and running tools.

    Args:
        engine: generates.
        codec: of its model.
        executor: runs the calls.
    """

    def __init__(self, engine: TokenEngine, codec: CmlFormat, executor: Executor) -> None:
        self._engine = engine
        self._codec = codec
        self._executor = executor
        self._definitions = executor.definitions()
        expected = {name: executor.expected_seconds(name) for name in executor.names()}
        self._expected = {name: seconds for name, seconds in expected.items() if seconds}
        self._numbers = count(1)

    async def play(
        self,
        question: Question,
        mode: Mode,
        on_event: Callable[[Recording], None] = lambda recording: None,
    ) -> Recording:
        """Ask, run the calls that the model makes, and judge its answer.

        Args:
            question: what is asked.
            mode: what happens at a call.
            on_event: told of the recording whenever something has happened.

        Raises:
            SessionError: the engine failed.
        """
        messages: list[Message] = [{"role": "user", "content": question.text}]
        prompt = self._codec.prompt(messages, self._definitions, mode, self._expected)
        session = CallingSession(
            self._engine,
            self._codec,
            Checkpoint(prompt),
            Sampling(max_tokens=_MOST_TOKENS),
            mode=mode,
            tools=known_tools(self._definitions),
            expectations=Durations(self._expected),
            clock=time.perf_counter,
        )
        execution = Execution(self._executor, f"demo-{next(self._numbers)}")
        driver = Driver(session, execution, clock=time.perf_counter)
        recording = Recording(question, mode, driver.timeline, results=execution.results)
        on_event(recording)
        try:
            async for event in driver.events():
                recording.note(event)
                recording.generated_tokens = session.generated_tokens
                on_event(recording)
        finally:
            await session.close()
        recording.mistakes = mistakes(question, driver.timeline)
        on_event(recording)
        return recording


def token_milliseconds(recordings: Sequence[Recording]) -> float:
    """Time per generated token, over all recordings; reading what was injected included."""
    tokens = sum(recording.generated_tokens for recording in recordings)
    seconds = sum(recording.generating_seconds for recording in recordings)
    return 1000 * seconds / max(1, tokens)
