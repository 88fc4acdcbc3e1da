"""A session in the model's own tool-call format: it generates, calls, and reads all results."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import astuple

from caesura.cml import Mode
from caesura.endpoints import HUMAN
from caesura.session.agent import Agent
from caesura.session.dialogue import WrittenCall
from caesura.session.events import Report
from caesura.session.fitting import fitted, room_after
from caesura.session.inbox import UserMessage
from caesura.session.protocol import StopReason
from caesura.session.records import (
    CallRecord,
    EventType,
    Message,
    Phase,
    SessionEnding,
    SessionRecord,
)
from caesura.session.session import Session, SessionState
from caesura.session.shapes import call_details, tool_message, user_message
from caesura.session.stretch import Turn
from caesura.session.workplace import Workplace
from caesura.tools.call import ToolCall


class TurnAgent(Agent):
    """A session whose turns end with their calls.

    Its calls run at the same time, or in mode `sync` one after the other; the next turn begins
    when all results are there.
    """

    def __init__(
        self, record: SessionRecord, transcript: Sequence[int], workplace: Workplace
    ) -> None:
        super().__init__(record, transcript, workplace)
        self._session: Session | None = None
        self._begun = False  # the turn of number `turns` is to be gone on with
        self._injected: deque[list[UserMessage]] = deque()
        self._expected: tuple[float | None, float | None] | None = None
        self._asking: set[str] = set()  # calls that wait for a human
        self._waits_for: str | None = None  # as the engine was told

    async def _restore(self) -> None:
        self._injected.clear()
        if self.phase is Phase.GENERATING and self.turns:
            await self._look_for_begun_turn()

    async def _look_for_begun_turn(self) -> None:
        """A turn that was cut off has the same number when it is generated again, or further."""
        last = await self._work.store.last_event(self.id, EventType.OUTPUT)
        lost = last is None or last.data["turn"] != self.turns
        self._begun = lost or (last is not None and last.data["stop"] == StopReason.INTERRUPTED)
        if lost:
            await self.events.commit(reports=[(EventType.RESTARTED, {"turn": self.turns})])

    async def _close_engine(self) -> None:
        if self._session is not None:
            await self._session.close()

    # Generating

    async def _generate(self) -> None:
        if not self._begun and self.turns >= self.spec.max_turns:
            limit = f"the session has had its {self.spec.max_turns} turns (max_turns)"
            await self._end(SessionEnding.LIMIT, limit)
            return
        await self._require_room()
        session = await self._engine_session()
        turn = await self._start_turn(session)
        async for delta in session:
            turn.take(delta)
            if delta.stop is not None:
                await self._turn_over(session, turn, delta.stop)
                if session.state is SessionState.GENERATING:
                    turn = await self._start_turn(session)
            elif not turn.inside_call and (self.held or self._stop is not None):
                await session.close()
            elif not turn.inside_call and self._inbox.has_news:
                await self._inject(session)
        if self.phase is Phase.GENERATING:  # stopped in the middle
            await self._keep_partial(session, turn)

    async def _engine_session(self) -> Session:
        """The session in the engine, generating: resumed already, or opened anew."""
        session = self._session
        if session is None or session.state is SessionState.CLOSED:
            sampling = self._work.sampling(self.owner, self.spec)
            session = await Session.open(
                self._work.engine_of(self.owner),
                self._transcript,
                sampling,
                session_id=self.id,
            )
            self._session = session
        return session

    async def _start_turn(self, session: Session) -> Turn:
        if not self._begun:
            self.turns += 1
        self._begun = False
        reader = self._work.dialogue.reader(session.transcript, self._definitions)
        phase = self._work.store.set_phase(self.id, Phase.GENERATING, self.turns)
        await self.events.commit(
            phase, reports=[self._phase_report()], pieces=2 * self.spec.turn_tokens
        )
        return Turn(self.turns, self.events, reader)

    async def _inject(self, session: Session) -> None:
        """Interrupt what is generated with the user's messages."""
        messages = await self._inbox.pass_on()
        if not messages or session.state is not SessionState.GENERATING:
            return
        self._injected.append(messages)
        chat = [user_message(message.text) for message in messages]
        await session.interrupt(await self._rendered(session.transcript, chat))

    async def _fitted(self, chat: Sequence[Message], said: Sequence[Message]) -> list[int]:
        """Tokens of what tools and then the user say; the longest results are cut if they leave
        too little of the context for an answer, and the model reads that they were."""
        room = room_after(
            len(self._transcript), self._work.dialogue.max_context_tokens, self.spec.turn_tokens
        )

        async def tokens_of(contents: Sequence[str]) -> list[int]:
            told = [m | {"content": text} for m, text in zip(chat, contents, strict=True)]
            return await self._rendered(self._transcript, [*told, *said])

        return await fitted([str(message["content"]) for message in chat], room, tokens_of)

    async def _rendered(self, transcript: Sequence[int], chat: Sequence[Message]) -> list[int]:
        """Tokens of messages after a transcript; in a thread, since results may be long."""
        return await asyncio.to_thread(self._work.dialogue.append, transcript, chat)

    async def _turn_over(self, session: Session, turn: Turn, stop: StopReason) -> None:
        """A turn has ended: by itself, or since messages of the user were injected."""
        goes_on = session.state is SessionState.GENERATING
        injected = self._injected.popleft() if goes_on and self._injected else []
        written, report = turn.end(stop)
        calls = self._add_calls(written)
        if not goes_on:
            self.phase = self._phase_after_turn()
        await self._save_output(session, calls, report, injected)

    def _phase_after_turn(self) -> Phase:
        return Phase.CALLING if self._calls.records else Phase.IDLE

    async def _keep_partial(self, session: Session, turn: Turn) -> None:
        written, report = turn.end(StopReason.INTERRUPTED)
        calls = self._add_calls(written)
        self._begun = True
        self._injected.clear()
        self._inbox.recall()
        await self._save_output(session, calls, report)

    def _add_calls(self, written: Sequence[WrittenCall]) -> list[CallRecord]:
        """The calls of a turn, which are pending from now on."""
        return [
            self._calls.add(name, arguments, self.turns)
            for name, arguments in map(astuple, written)
        ]

    async def _save_output(
        self,
        session: Session,
        calls: Sequence[CallRecord],
        report: Report,
        injected: Sequence[UserMessage] = (),
    ) -> None:
        """Write what was generated, its calls, and the messages that took their place behind it."""
        await self._advance(
            session.transcript[len(self._transcript) :],
            *[self._work.store.add_call(call) for call in calls],
            *self._inbox.delivered(injected),
            reports=[
                report,
                *[(EventType.CALL, call_details(call)) for call in calls],
                *[(EventType.MESSAGE, user_message(message.text)) for message in injected],
                self._phase_report(),
            ],
        )

    # Calls

    async def _call(self) -> None:
        """Run the calls that have no result, and give all results to the model."""
        while self._stop is None and (unfinished := self._calls.unfinished):
            one_by_one = self.spec.function_calling is Mode.SYNC
            self._calls.start(unfinished[:1] if one_by_one else unfinished)
            await self._woken()
            await self._report_progress()
        if self._stop is not None:
            await self._calls.stop()
            return
        await self._released()
        if self._stop is None:
            await self._deliver()

    def _expect(
        self, call: ToolCall, fraction: float | None, remaining_seconds: float | None
    ) -> None:
        self._expected = fraction, remaining_seconds
        self._wake.set()

    def _asks(self, call_id: str, for_human: bool) -> None:
        if for_human:
            self._asking.add(call_id)
        else:
            self._asking.discard(call_id)
        self._wake.set()

    async def _name_pause(self) -> None:
        """Tell the engine when the session begins to wait for a human, and when it no longer
        does."""
        session = self._session
        if session is None or session.state is not SessionState.PAUSED:
            self._waits_for = None
            return
        waited = [record.call for record in self._calls.unfinished]
        by_human = any(call.id in self._asking for call in waited)
        if not waited or (not by_human and self._waits_for is None):
            return  # the engine knows the tools by what the model wrote
        endpoint = HUMAN if by_human else "+".join(sorted({call.name for call in waited}))
        if endpoint != self._waits_for:
            self._waits_for = endpoint
            await session.progress(endpoint=endpoint)

    async def _report_progress(self) -> None:
        """Tell the engine how far the call is that the session waits for, if it is only one."""
        await self._name_pause()
        expected, self._expected = self._expected, None
        if expected is None or self._session is None:
            return
        fraction, remaining_seconds = expected
        if len(self._calls.unfinished) == 1 and self._session.state is SessionState.PAUSED:
            if remaining_seconds is not None:
                await self._session.progress(remaining_seconds=remaining_seconds)
            elif fraction is not None:
                await self._session.progress(fraction=fraction)

    async def _deliver(self) -> bool:
        """Append results and messages of the user, and resume."""
        results = self._calls.finished
        messages = await self._inbox.waiting()
        if not results and not messages:
            return False
        chat = [tool_message(record) for record in results]
        await self._resume(chat, results, messages)
        return True

    async def _resume(
        self,
        chat: Sequence[Message],
        delivered: Sequence[CallRecord],
        messages: Sequence[UserMessage],
        reports: Sequence[Report] = (),
    ) -> None:
        """Append messages for the model, and let it generate.

        Args:
            chat: what tools say.
            delivered: calls whose results are in it.
            messages: of the user; they follow it.
            reports: what is told of it beside the messages.
        """
        said = [user_message(message.text) for message in messages]
        tokens = await self._fitted(chat, said)
        self._calls.remove(delivered)
        self.phase = Phase.GENERATING
        session = self._session
        await self._advance(
            tokens,
            *[self._work.store.deliver_call(record.call.id) for record in delivered],
            *self._inbox.delivered(messages),
            reports=[
                *reports,
                *[(EventType.MESSAGE, message) for message in said],
                self._phase_report(),
            ],
        )
        if session is not None and session.state is SessionState.PAUSED:
            await session.resume(tokens)
