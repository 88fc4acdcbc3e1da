"""Runs a calling session whose calls are functions of the caller."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from caesura.cml import Call, FireAndForget, Interrupt
from caesura.session.calling.calling_session import CallingSession
from caesura.session.calling.happenings import CallingEvent, CallIssued, SentOff
from caesura.session.calling.timeline import CallSpan, Timeline

_LOG = logging.getLogger(__name__)

Execute = Callable[[Call | FireAndForget], Awaitable[str]]
"""Runs a call. The text is its result; the message of an exception is what the model is told."""


class Driver:
    """Executes each call as a task from the moment that it is issued, and delivers its result.

    Args:
        session: a session that was not begun.
        execute: runs a call.
        clock: seconds, the session's.

    Attributes:
        timeline: what has happened.
    """

    def __init__(
        self,
        session: CallingSession,
        execute: Execute,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._execute = execute
        self._clock = clock
        self._awaited: set[asyncio.Task[None]] = set()
        self._sent_off: set[asyncio.Task[None]] = set()
        self.timeline = Timeline(clock())

    async def events(self) -> AsyncGenerator[CallingEvent, None]:
        """The session's events, after each was acted on.

        At the end calls that still run are cancelled, if they have an id: nobody reads their
        results. The others are waited for.

        Raises:
            SessionError: the engine failed.
        """
        try:
            async for event in self._session.events():
                self.timeline.note(event)
                self.timeline.generated_tokens = self._session.generated_tokens
                if isinstance(event, CallIssued):
                    self._start(event.call, self._awaited)
                elif isinstance(event, SentOff):
                    self._start(event.call, self._sent_off)
                yield event
            await _cancelled(self._awaited)
            await asyncio.gather(*self._sent_off)
        finally:
            await _cancelled(self._awaited | self._sent_off)

    def _start(self, call: Call | FireAndForget, tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(self._run(call, self.timeline.calls[-1]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def run(self) -> Timeline:
        """Run the session to the end of the model's turn.

        Raises:
            SessionError: the engine failed.
        """
        async for _ in self.events():
            pass
        return self.timeline

    async def _run(self, call: Call | FireAndForget, span: CallSpan) -> None:
        span.started_at = self._clock()
        error_text: str | None = None
        try:
            value = await self._execute(call)
        except Exception as error:
            error_text = str(error) or type(error).__name__
            span.failed = True
        span.finished_at = self._clock()
        if isinstance(call, FireAndForget):
            if error_text is not None:
                _LOG.warning(
                    "call of %s failed, and nobody waits for it: %s", call.name, error_text
                )
        elif error_text is not None:
            self._session.deliver(Interrupt.of_failure(call.id, "failed", error_text))
        else:
            self._session.deliver(Interrupt(call.id, value))


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    running = list(tasks)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
