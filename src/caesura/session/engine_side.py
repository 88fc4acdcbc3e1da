"""The engine's side of a CML agent."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from pydantic import JsonValue

from caesura.cml import AtEnd, Mode
from caesura.session.calling import CallingSession, Checkpoint, Course, known_tools
from caesura.session.inbox import Inbox
from caesura.session.pending_calls import PendingCalls
from caesura.session.protocol import Sampling
from caesura.session.records import Message, SessionRecord
from caesura.session.shapes import call_of, interrupt_of
from caesura.session.workplace import Workplace


class EngineSide:
    """Opens the agent's `CallingSession` where its transcript ends, and feeds it.

    Args:
        record: the session.
        definitions: of its tools.
        workplace: has the engine.
        calls: the session's, with their results.
        inbox: messages of its user.

    Attributes:
        session: the session in the engine; None if it has to be opened.

    Raises:
        ValueError: the model cannot be told of calls in this way any more.
    """

    def __init__(
        self,
        record: SessionRecord,
        definitions: Sequence[dict[str, JsonValue]],
        workplace: Workplace,
        calls: PendingCalls,
        inbox: Inbox,
    ) -> None:
        self.session: CallingSession | None = None
        self._format = workplace.formats.for_cml()
        self._mode = record.spec.function_calling or Mode.ASYNC
        self._record = record
        self._definitions = definitions
        self._work = workplace
        self._calls = calls
        self._inbox = inbox
        self._asking: set[str] = set()  # calls that wait for a human

    async def opened(self, transcript: Sequence[int], course: Course) -> CallingSession:
        """The session as it was left, or reopened from the stored state."""
        if self.session is None:
            sampling = await self._sampling()
            labels = await self._work.store.labels(self._record.id)
            calls = [r for r in self._calls.records if r.call.id not in self._calls.unread]
            self.session = CallingSession(
                self._work.engine_of(self._record.owner),
                self._format,
                Checkpoint(transcript, course, [call_of(record) for record in calls], labels),
                sampling,
                mode=self._mode,
                at_end=self._record.spec.at_end or AtEnd.WAIT,
                tools=known_tools(self._definitions),
                expectations=self._work.durations_of(self._record.owner),
                session_id=self._record.id,
                context_tokens=self._work.dialogue.max_context_tokens,
            )
            for call_id in self._asking:
                if (label := self._label_of(call_id)) is not None:
                    self.session.asks(label, True)
            self._inbox.recall()
            self._pass_on_results(self.session)  # before it waits for them
        return self.session

    async def _sampling(self) -> Sampling:
        sampling = self._work.sampling(self._record.owner, self._record.spec)
        if not self._work.formats.constrains:
            return sampling
        # All parameters of all tools are checked for it.
        grammar = await asyncio.to_thread(self._format.grammar, self._definitions, self._mode)
        return replace(sampling, grammar=grammar)

    async def close(self) -> None:
        """Close the session; what is not in its transcript is passed on again after reopening."""
        session, self.session = self.session, None
        if session is not None:
            await session.close()

    async def rendered(self, chat: Sequence[Message], transcript: Sequence[int]) -> list[int]:
        """Tokens of the user's next messages; made in a thread, since they may be long."""
        return await asyncio.to_thread(self._format.append, transcript, chat, self._mode)

    async def prompt(self, token_ids: Sequence[int]) -> None:
        """Begin the next turn with these tokens, which are stored already."""
        if self.session is None:
            return  # it is opened with them
        if self.session.has_queued:  # a message that came too late: it is among them
            await self.close()
        else:
            self.session.prompt(token_ids)

    async def pass_on(
        self,
        session: CallingSession,
        is_held: Callable[[], bool],
        woken: Callable[[], Awaitable[None]],
    ) -> None:
        """Pass results and messages on as they arrive, until cancelled.

        The session is closed if that fails.

        Args:
            session: receives them.
            is_held: whether the session's user has paused it: everything waits.
            woken: returns when something has happened to the agent.
        """
        try:
            while True:
                if not is_held():
                    self._pass_on_results(session)
                    if self._inbox.has_news:
                        for message in await self._inbox.pass_on():
                            session.steer(message.text, message)
                await woken()
        except Exception:
            await session.close()
            raise

    def _pass_on_results(self, session: CallingSession) -> None:
        for record in self._calls.finished:  # the session takes each once
            session.deliver(interrupt_of(record), record)

    def expect(self, call_id: str, fraction: float | None, remaining_seconds: float | None) -> None:
        """Tell the session how far a call is: the share that is done, or the time that is left."""
        label = self._label_of(call_id)
        if self.session is not None and label is not None:
            self.session.expect(label, fraction, remaining_seconds)

    def asks(self, call_id: str, for_human: bool) -> None:
        """Tell the session that a call waits for a human now, or no longer."""
        if for_human:
            self._asking.add(call_id)
        else:
            self._asking.discard(call_id)
        label = self._label_of(call_id)
        if self.session is not None and label is not None:
            self.session.asks(label, for_human)

    def _label_of(self, call_id: str) -> str | None:
        labels = {record.call.id: record.label for record in self._calls.unfinished}
        return labels.get(call_id)
