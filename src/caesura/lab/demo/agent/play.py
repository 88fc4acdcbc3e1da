"""Plays a question in one mode, with running tools."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from caesura.cml import Mode
from caesura.lab.bench.function_calling.stage import Scene, Stage
from caesura.lab.demo.agent.execution import ToolExecution
from caesura.lab.demo.agent.questions import AgentQuestion
from caesura.lab.demo.agent.verdict import mistakes
from caesura.session import Sampling
from caesura.session.calling import (
    CallingEvent,
    CallIssued,
    Durations,
    SpanKind,
    TextWritten,
    Timeline,
    Trapped,
    known_tools,
)
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
        mistakes: what is wrong with the answer, once it is there.
    """

    question: AgentQuestion
    mode: Mode
    timeline: Timeline = field(default_factory=lambda: Timeline(time.perf_counter()))
    traps: list[float] = field(default_factory=list)
    written: list[tuple[float, str]] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
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


class AgentPlayer:
    """Plays questions with running tools.

    Args:
        stage: where they are played.
        executor: runs the calls.
    """

    def __init__(self, stage: Stage, executor: Executor) -> None:
        self._stage = stage
        self._executor = executor
        self._definitions = executor.definitions()
        expected = {name: executor.expected_seconds(name) for name in executor.names()}
        self._expected = {name: seconds for name, seconds in expected.items() if seconds}
        self._numbers = count(1)

    async def play(
        self,
        question: AgentQuestion,
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
        execution = ToolExecution(self._executor, f"demo-{next(self._numbers)}")
        scene = Scene(
            self._stage.prompt(question.text, mode, self._definitions, self._expected),
            mode,
            Sampling(max_tokens=_MOST_TOKENS),
            known_tools(self._definitions),
            execution,
            Durations(self._expected),
        )
        recording = Recording(question, mode, results=execution.results)
        on_event(recording)
        await self._stage.play(scene, RecordingJudge(recording, on_event))
        recording.mistakes = mistakes(question, recording.timeline)
        on_event(recording)
        return recording


@dataclass(frozen=True, slots=True)
class RecordingJudge:
    """Keeps a recording of a session. See `stage.Judge`.

    Attributes:
        recording: what has happened so far.
        on_event: told of it whenever something has happened.
    """

    recording: Recording
    on_event: Callable[[Recording], None]

    def note(self, event: CallingEvent, timeline: Timeline) -> None:
        """See `stage.Judge`."""
        self.recording.timeline = timeline
        self.recording.note(event)
        self.on_event(self.recording)


def token_milliseconds(recordings: Sequence[Recording]) -> float:
    """Time per generated token, over all recordings; reading what was injected included."""
    tokens = sum(recording.timeline.generated_tokens for recording in recordings)
    seconds = sum(recording.generating_seconds for recording in recordings)
    return 1000 * seconds / max(1, tokens)
