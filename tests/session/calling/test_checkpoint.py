"""A session that goes on reports all of the text behind its transcript, and none of it twice."""

import asyncio

import pytest

from caesura.cml import Call, Interrupt, Mode, Point
from caesura.session import Sampling
from caesura.session.calling import CallingSession, Checkpoint, Course, TextWritten
from fakes import FakeEngine
from session.calling.byte_model import EOS, PROMPT
from session.spelled import SpelledFormat, text_of

CALL = '[CALL]a[HEAD]{"name": "f"}[END]'
TRAPPED = f"{CALL}[TRAP][END]["
PENDING = (Call("a", "f"),)


def text_behind(start: Checkpoint, mode: Mode, written: str) -> str:
    """What is reported as text where a session goes on, whose model writes this."""

    def model(transcript: list[int]) -> int:
        behind = "".join(map(text_of, transcript[len(start.token_ids) :])).rpartition("[END]")[2]
        missing = written.removeprefix(behind)
        return ord(missing[0]) if missing else EOS

    async def scenario() -> str:
        engine = FakeEngine(EOS, model, text_of)
        session = CallingSession(
            engine, SpelledFormat(), start, Sampling(max_tokens=100), mode=mode
        )
        for source, call in enumerate(start.pending):
            session.deliver(Interrupt(call.id, "1"), source)
        events = [event async for event in session.events()]
        await session.close()
        return "".join(event.text for event in events if isinstance(event, TextWritten))

    return asyncio.run(scenario())


def behind(
    text: str, *, pending: tuple[Call, ...] = (), point: Point = Point.WRITING
) -> Checkpoint:
    tokens = [PROMPT, *text.encode()]
    course = Course(len(tokens), point, generated_tokens=len(text))
    return Checkpoint(tokens, course, pending)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(
    ("before", "written", "expected"),
    [
        ("See [", "1].", "[1]."),
        ("See [EN", "d].", "[ENd]."),
        ("See [~EN", "D].", "END]."),
        ("See [", "~END].", "[END]."),
        ("See <thi", "ng>", "<thing>"),
    ],
)
def test_half_a_marker_is_read_on(mode: Mode, before: str, written: str, expected: str) -> None:
    assert text_behind(behind(before), mode, written) == expected


@pytest.mark.parametrize(
    ("start", "modes"),
    [
        (behind(TRAPPED, pending=PENDING, point=Point.TRAPPED), Mode),
        (behind(f"{CALL}[", pending=PENDING), (Mode.SYNC, Mode.SYNC_PARALLEL)),
        (behind("See [", pending=PENDING, point=Point.ENDED), Mode),
    ],
)
def test_half_a_marker_that_has_been_reported_is_not_reported_again(
    start: Checkpoint, modes: list[Mode]
) -> None:
    for mode in modes:
        assert text_behind(start, mode, "") == ""


def test_calls_that_are_pending_do_not_end_the_text_of_an_asynchronous_session() -> None:
    start = behind("See [", pending=PENDING)
    assert text_behind(start, Mode.ASYNC, "1].") == "[1]."
