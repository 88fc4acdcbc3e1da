"""Plays a scripted session to its end, with results that arrive at chosen tokens; checks it."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing

from caesura.cml import Call, FireAndForget, Interrupt, Mode, Piece, Text, Trap
from caesura.session import Sampling
from caesura.session.calling import (
    CallingEvent,
    CallingSession,
    CallIssued,
    Checkpoint,
    Ended,
    Injected,
    Mistake,
    Paused,
    SentOff,
    TextWritten,
    Trapped,
)
from cml_transcript import read_transcript
from fakes import FakeEngine
from session.calling.byte_model import PROMPT, ByteCodec, shown

SAMPLING = Sampling(max_tokens=100_000)
CODEC = ByteCodec()


def calling(engine: FakeEngine, mode: Mode, **options) -> CallingSession:
    start = options.pop("start", Checkpoint([PROMPT]))
    sampling = options.pop("sampling", SAMPLING)
    return CallingSession(engine, CODEC, start, sampling, mode=mode, **options)


class Play:
    """A session whose results arrive when the model has written so many tokens.

    Args:
        engine: with a scripted model.
        mode: what happens at a call.
        arrives: by call id, when its result arrives at the earliest; at once by default. In a
            pause the one that is due first arrives.
        steering: messages of the user, by the number of tokens.

    Attributes:
        delivered: all that was delivered, in order of arrival.
        events: all that happened.
    """

    def __init__(
        self,
        engine: FakeEngine,
        mode: Mode,
        arrives: Mapping[str, int] | None = None,
        steering: Mapping[int, str] | None = None,
        **options,
    ) -> None:
        self.arrives = arrives or {}
        self.steering = dict(steering or {})
        self.delivered: list[Interrupt] = []
        self.events: list[CallingEvent] = []
        self.mode = mode
        self.session = calling(engine, mode, **options)
        self._model = engine.model
        engine.model = self._next_token

    def _next_token(self, transcript: Sequence[int]) -> int:
        token = self._model(transcript)
        now = self._model.own.count
        for due in [at for at in self.steering if at <= now]:
            self.steer(self.steering.pop(due))
        for call_id in sorted(self.session.pending, key=self._due):
            if self._due(call_id) <= now:
                self._deliver(Interrupt(call_id, f"result of {call_id}"))
        return token

    def _due(self, call_id: str) -> int:
        return self.arrives.get(call_id, 0)

    def _deliver(self, interrupt: Interrupt) -> None:
        if self.session.deliver(interrupt):
            self.delivered.append(interrupt)

    def steer(self, message: str) -> None:
        self._deliver(Interrupt.steering(message))

    async def run(self) -> "Play":
        async with asyncio.timeout(20):
            async for event in self.session.events():
                self.events.append(event)
                if isinstance(event, Paused):
                    while self.session.pending and self._all_waited_for(event):
                        first = min(self.session.pending, key=self._due)
                        self._deliver(Interrupt(first, f"result of {first}"))
        await self.session.close()
        return self

    def _all_waited_for(self, pause: Paused) -> bool:
        """Whether what has arrived does not end the pause yet."""
        if self.mode is Mode.ASYNC:
            return self.session.pending == pause.pending
        return bool(self.session.pending & pause.pending)

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def ended(self) -> Ended:
        (ended,) = self.of(Ended)
        return ended

    @property
    def injected(self) -> list[Interrupt]:
        return [a.interrupt for event in self.of(Injected) for a in event.arrivals]

    @property
    def errors(self) -> list[Interrupt]:
        """What the model was told of its mistakes."""
        return [event.error.interrupt for event in self.of(Mistake)]

    @property
    def pieces(self) -> list[Piece]:
        """The transcript, as the grammar has it."""
        return read_transcript(shown(self.session.transcript[1:]))

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.of(TextWritten))

    def check(self) -> "Play":
        """What holds of every session."""
        transcript = list(self.session.transcript)
        results = [interrupt for interrupt in self.injected if interrupt not in self.errors]
        assert results == self.delivered, "lost, injected twice, or in another order"
        for event in self.of(Injected):
            tokens = CODEC.interrupts([a.interrupt for a in event.arrivals])
            assert transcript[event.position : event.position + event.tokens] == tokens
        assert [p for p in self.pieces if isinstance(p, Interrupt)] == self.injected
        positions = [event.position for event in self.events]
        assert positions == sorted(positions)
        assert positions[-1] == len(transcript)
        for event in self.of(CallIssued):
            assert event.position - event.tokens >= 1
            (call,) = read_transcript(
                shown(transcript[event.position - event.tokens : event.position])
            )
            assert call == event.call
        own = [p for p in self.pieces if not isinstance(p, Interrupt)]
        reported: list[Piece] = []
        for event in self.events:
            match event:
                case CallIssued(call=call) | SentOff(call=call):
                    reported.append(call)
                case Trapped():
                    reported.append(Trap())
        assert [p for p in own if isinstance(p, Call | FireAndForget | Trap)] == reported
        assert "".join(p.text for p in own if isinstance(p, Text)) == self.text
        return self


async def play(engine: FakeEngine, mode: Mode, **options) -> Play:
    return (await Play(engine, mode, **options).run()).check()


async def until(session: CallingSession, kind: type) -> CallingEvent:
    """The first event of a kind."""
    async with aclosing(session.events()) as events:
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"no {kind}")
