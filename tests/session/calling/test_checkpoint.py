"""A session that goes on reports all of the text behind its transcript, and none of it twice."""

import asyncio

import pytest

from caesura.cml import Call, Interrupt, Marker, Mode, Point
from caesura.session import Sampling
from caesura.session.calling import CallingSession, Checkpoint, Course, TextWritten
from session.calling.byte_model import EOS, MARKERS, PROMPT, ByteCodec, text_of, written
from support.engines.fakes import FakeEngine

CALL = '[CALL]a[HEAD]{"name": "f"}[END]'
PENDING = (Call("a", "f"),)
MISTAKE = (Interrupt("error", "no"),)
END = MARKERS[Marker.END]


def text_behind(start: Checkpoint, mode: Mode, script: bytes) -> str:
    """What is reported as text where a session goes on, whose model writes this."""

    def model(transcript: list[int]) -> int:
        behind = transcript[len(start.token_ids) :]
        if END in behind:  # of what was injected
            behind = behind[len(behind) - behind[::-1].index(END) :]
        return script[len(behind)] if len(behind) < len(script) else EOS

    async def scenario() -> str:
        engine = FakeEngine(EOS, model, text_of)
        session = CallingSession(engine, ByteCodec(), start, Sampling(max_tokens=100), mode=mode)
        for source, call in enumerate(start.pending):
            session.deliver(Interrupt(call.id, "1"), source)
        events = [event async for event in session.events()]
        await session.close()
        return "".join(event.text for event in events if isinstance(event, TextWritten))

    return asyncio.run(scenario())


def behind(
    stream: str | bytes,
    *,
    pending: tuple[Call, ...] = (),
    point: Point = Point.WRITING,
    errors: tuple[Interrupt, ...] = (),
) -> Checkpoint:
    behind_prompt = list(stream) if isinstance(stream, bytes) else written(stream)
    tokens = [PROMPT, *behind_prompt]
    course = Course(len(tokens), point, generated_tokens=len(tokens) - 1, errors=errors)
    return Checkpoint(tokens, course, pending)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(
    ("before", "script", "expected"),
    [
        ("See [~EN", "D].", "END]."),
        ("See [~EN", "d].", "~ENd]."),
        ("See [", "~END].", "END]."),
        ("See <~thi", "nk>", "think>"),
        (f"{CALL}[~EN", "D]", "END]"),
        ("See é".encode()[:-1], "é".encode()[1:], "é"),
    ],
)
def test_what_is_half_written_is_read_on(
    mode: Mode, before: str | bytes, script: str | bytes, expected: str
) -> None:
    script = script.encode() if isinstance(script, str) else script
    assert text_behind(behind(before), mode, script) == expected


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(
    "start",
    [
        behind(f"See [~EN{CALL}[TRAP][END]", pending=PENDING, point=Point.TRAPPED),
        behind(f"See [~EN{CALL}", pending=PENDING),
        behind("See [~EN", pending=PENDING, point=Point.ENDED),
    ],
)
def test_what_has_been_reported_is_not_reported_again(start: Checkpoint, mode: Mode) -> None:
    assert text_behind(start, mode, b"") == ""


@pytest.mark.parametrize("mode", Mode)
def test_what_is_half_written_when_the_model_is_told_of_a_mistake_is_text(mode: Mode) -> None:
    assert text_behind(behind("See [~EN", errors=MISTAKE), mode, b"D].") == "~END]."


def test_what_is_half_written_when_a_result_arrives_is_text() -> None:
    start = behind("See [~EN", pending=PENDING)
    assert text_behind(start, Mode.ASYNC, b"D].") == "~END]."
