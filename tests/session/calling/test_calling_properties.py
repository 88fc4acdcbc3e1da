"""Any script, any arrival, any reader: nothing is lost, doubled, reordered or put in a frame."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from itertools import zip_longest

from hypothesis import given
from hypothesis import strategies as st

from caesura.cml import AtEnd, Call, FireAndForget, Interrupt, Marker, Mode, Piece, Text, Trap
from caesura.session import Sampling
from caesura.session.calling import (
    CallingEvent,
    CallingSession,
    CallIssued,
    Checkpoint,
    Course,
    Ended,
    Ending,
    Injected,
    Mistake,
    Paused,
    SentOff,
    TextWritten,
)
from session.calling.byte_model import MARKERS, PROMPT, compact, eager, engine, written
from session.calling.play import Play, calling

TEXTS = st.sampled_from(
    [" ", "\n", "word", " two words. ", "12345678901234567890", "[END", "ä ", "[END]", "[~CALL]"]
)


@st.composite
def scripts(draw: st.DrawFn) -> list[Piece]:
    made: list[Piece] = []
    for _ in range(draw(st.integers(1, 8))):
        match draw(st.sampled_from(["call", "call", "call", "text", "text", "trap", "off"])):
            case "call":
                made.append(Call(f"c{len(made)}", "f"))
            case "text":
                made.append(Text(draw(TEXTS)))
            case "trap":
                made.append(Trap())
            case "off":
                made.append(FireAndForget("g"))
    return made


MOMENTS = st.integers(0, 150)
MISTAKES = st.lists(
    st.sampled_from(
        [
            '[CALL]m{n}[HEAD]{"name":[END]',
            "[CALL]{}[END]",
            "[TRAP]x[END]",
            "[CALL]m{n}[HEAD][TRAP][END]",
        ]
    ),
    max_size=3,
)


def own_tokens(tokens: Sequence[int]) -> list[int]:
    """What the model has written of a transcript without prompts."""
    own: list[int] = []
    inside = False
    for token in tokens:
        if token == MARKERS[Marker.INTR]:
            inside = True
        elif not inside:
            own.append(token)
        elif token == MARKERS[Marker.END]:
            inside = False
    return own


@given(
    script=scripts(),
    arrives=st.dictionaries(st.integers(0, 7).map("c{}".format), MOMENTS),
    steering=st.dictionaries(MOMENTS, st.sampled_from(["hm", "[END]", ""]), max_size=3),
    mode=st.sampled_from(Mode),
    at_end=st.sampled_from(AtEnd),
    make=st.sampled_from([engine, eager]),
    max_tokens=st.one_of(st.just(10_000), st.integers(1, 200)),
)
def test_any_session_keeps_the_rules(
    script: list[Piece],
    arrives: dict[str, int],
    steering: dict[int, str],
    mode: Mode,
    at_end: AtEnd,
    make,
    max_tokens: int,
) -> None:
    async def scenario() -> None:
        sampling = Sampling(max_tokens=max_tokens)
        played = Play(make(script), mode, arrives, steering, at_end=at_end, sampling=sampling)
        await played.run()
        assert played.session.generated_tokens <= max_tokens
        if played.ended.ending is not Ending.COMPLETED:
            return
        played.check()
        own = [token for token in script if isinstance(token, Call)]
        assert [p for p in played.pieces if isinstance(p, Call)] == own
        assert played.session.generated_tokens == len(written(compact(script)))
        waits = mode is not Mode.ASYNC or at_end is AtEnd.WAIT
        assert not (waits and played.ended.pending)
        assert all(event.error.kind == "nothing_pending" for event in played.of(Mistake))

    asyncio.run(scenario())


class Kept:
    """What an owner keeps of a session, to go on with it elsewhere."""

    def __init__(self) -> None:
        self.tokens = [PROMPT]
        self.course = Course(1)
        self.issued: list[Call | FireAndForget] = []
        self.text = ""
        self.mistakes: list[Interrupt] = []
        self.corrected: list[Interrupt] = []
        self.injected: list[Interrupt] = []
        self.delivered: list[Interrupt] = []
        self.waiting: dict[int, Interrupt] = {}  # delivered and not injected, by number

    @property
    def pending(self) -> list[Call]:
        read = {interrupt.id for interrupt in self.injected}
        return [one for one in self.issued if isinstance(one, Call) and one.id not in read]

    def opened(self, script: str, mode: Mode) -> CallingSession:
        start = Checkpoint(self.tokens, self.course, self.pending)
        session = calling(eager(script), mode, start=start)
        for number, interrupt in self.waiting.items():
            assert session.deliver(interrupt, number)
        return session

    def deliver(self, session: CallingSession, interrupt: Interrupt) -> None:
        number = len(self.delivered)
        if session.deliver(interrupt, number):
            self.delivered.append(interrupt)
            self.waiting[number] = interrupt

    def take(self, session: CallingSession, event: CallingEvent) -> None:
        before, self.course = self.course, session.course
        self.tokens = list(session.transcript)  # maybe beyond the course
        match event:
            case CallIssued(call=call) | SentOff(call=call):
                self.issued.append(call)
            case TextWritten(text=text):
                self.text += text
            case Mistake(error=error):
                in_frame = self.course.position < event.position
                assert in_frame or error.interrupt in self.course.errors
            case Injected(arrivals=arrivals):
                for arrival in arrivals:
                    if arrival.is_error:
                        self.corrected.append(arrival.interrupt)
                    else:
                        self.injected.append(arrival.interrupt)
                        assert self.waiting.pop(arrival.source) == arrival.interrupt
                return
        self.mistakes += self.course.errors[len(before.errors) :]


@given(
    pieces=scripts(),
    mistakes=MISTAKES,
    mode=st.sampled_from(Mode),
    lives=st.lists(st.integers(1, 12), max_size=30),
    steering=st.sets(st.integers(0, 60), max_size=3),
)
def test_any_restart_keeps_what_was_written_and_arrived(
    pieces: list[Piece],
    mistakes: list[str],
    mode: Mode,
    lives: list[int],
    steering: set[int],
) -> None:
    """Sessions that are left behind any event, and go on from their course."""
    wrong = [mistake.replace("{n}", str(n)) for n, mistake in enumerate(mistakes)]
    script = "".join(
        one + other for one, other in zip_longest(map(compact, zip(pieces)), wrong, fillvalue="")
    )

    async def scenario() -> None:
        kept = Kept()
        event: CallingEvent | None = None
        number = 0
        for events_left in [*lives, 10_000]:
            session = kept.opened(script, mode)
            async with aclosing(session.events()) as happening:
                async for event in happening:
                    kept.take(session, event)
                    if isinstance(event, Paused):
                        for call_id in sorted(event.pending):
                            kept.deliver(session, Interrupt(call_id, "x"))
                    elif number in steering and not isinstance(event, Ended):
                        kept.deliver(session, Interrupt.steering("hm"))
                    number += 1
                    events_left -= 1
                    if not events_left:
                        break
            await session.close()
            if isinstance(event, Ended):
                break
        if event.ending is not Ending.COMPLETED:
            return
        assert kept.issued == [one for one in pieces if isinstance(one, Call | FireAndForget)]
        assert kept.text == "".join(one.text for one in pieces if isinstance(one, Text))
        assert sorted(kept.injected, key=str) == sorted(kept.delivered, key=str)
        assert kept.corrected == kept.mistakes
        assert not kept.waiting
        assert own_tokens(kept.tokens[1 : kept.course.position]) == written(script)
        assert kept.course.generated_tokens == len(written(script))

    asyncio.run(scenario())
