"""Plays sessions that call functions on an engine, whoever judges them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import JsonValue

from caesura.cml import KnownTools, Mode
from caesura.engine.model.cml_format import CmlFormat
from caesura.session import Sampling, Session, TokenEngine
from caesura.session.calling import (
    CallingEvent,
    CallingSession,
    Checkpoint,
    Driver,
    Execute,
    Expectations,
    Timeline,
)


@dataclass(frozen=True, slots=True)
class Scene:
    """What is played.

    Attributes:
        prompt: its tokens.
        mode: what happens at a call.
        sampling: how the model writes.
        tools: which calls are well formed.
        execute: runs a call.
        expectations: how long calls are said to take.
    """

    prompt: Sequence[int]
    mode: Mode
    sampling: Sampling
    tools: KnownTools
    execute: Execute
    expectations: Expectations


class Judge(Protocol):
    """Who watches a session, and says afterwards whether it went well."""

    def note(self, event: CallingEvent, timeline: Timeline) -> None:
        """Take the next event, after the timeline has."""
        ...


class Stage:
    """An engine with a model that calls functions.

    Args:
        engine: generates.
        codec: of its model.
        clock: seconds, real or not.
    """

    def __init__(
        self,
        engine: TokenEngine,
        codec: CmlFormat,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.clock = clock
        self._engine = engine
        self._codec = codec

    def prompt(
        self,
        question: str,
        mode: Mode,
        definitions: Sequence[dict[str, Any]],
        expected_seconds: Mapping[str, float],
    ) -> list[int]:
        """The tokens of a user's question.

        Args:
            question: of the user.
            mode: what happens at a call.
            definitions: OpenAI tool definitions.
            expected_seconds: what tools are said to take, by name.
        """
        messages: list[dict[str, JsonValue]] = [{"role": "user", "content": question}]
        return list(self._codec.prompt(messages, definitions, mode, expected_seconds))

    async def read_ahead(self, prompt: Sequence[int]) -> None:
        """Have the prompt in the prefix cache, but for its last block."""
        async with await Session.open(self._engine, prompt, Sampling(max_tokens=1)) as session:
            async for _ in session:
                pass

    async def play(self, scene: Scene, judge: Judge) -> Timeline:
        """Play a scene to its end.

        Raises:
            SessionError: the engine failed.
        """
        session = CallingSession(
            self._engine,
            self._codec,
            Checkpoint(tuple(scene.prompt)),
            scene.sampling,
            mode=scene.mode,
            tools=scene.tools,
            expectations=scene.expectations,
            clock=self.clock,
        )
        driver = Driver(session, scene.execute, clock=self.clock)
        try:
            async for event in driver.events():
                judge.note(event, driver.timeline)
        finally:
            await session.close()
        return driver.timeline
