"""Whole sessions: a model and tools that may be hostile, a runtime that keeps the rules."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from caesura.cml import (
    Call,
    End,
    EndOfStream,
    Event,
    Inject,
    Interrupt,
    Mode,
    Monitor,
    MonitorSettings,
    Pause,
    Piece,
    Point,
    Situation,
    Text,
    Trap,
    encode_tokens,
    escape,
    next_step,
)
from support.cml.streams import (
    FRAGMENTS,
    TOKEN_IDS,
    characters,
    encode_text,
    joined,
    json_objects,
    names,
    pieces,
    spelled,
    streams,
)
from support.cml.transcript import read_transcript


@st.composite
def hostile_values(draw: st.DrawFn) -> str:
    """Frames as they are written, with a few characters and fragments changed."""
    characters = list(encode_text(draw(st.lists(pieces, max_size=3))))
    for _ in range(draw(st.integers(0, 4))):
        position = draw(st.integers(0, len(characters)))
        end = position + draw(st.integers(0, 2))
        characters[position:end] = draw(st.sampled_from(["", "~", "[", "]", *FRAGMENTS]))
    return "".join(characters)


class Sessions(RuleBasedStateMachine):
    """A session in progress: what is written, what has arrived, what the monitor has seen."""

    def __init__(self) -> None:
        super().__init__()
        decode = lambda token_ids, final: spelled(token_ids)  # noqa: E731
        self.monitor = Monitor(MonitorSettings(), TOKEN_IDS, decode)
        self.transcript: list[Piece] = []
        self.stream: list[int] = []
        self.unwritten: list[int] = []
        self.begun = 0  # where in the stream the latest piece begins
        self.text_begun = 0  # and all text behind the last frame
        self.point = Point.WRITING
        self.pending: set[str] = set()
        self.queue: list[Interrupt] = []
        self.calls = 0
        self.seen: list[Event] = []

    @initialize(mode=st.sampled_from(Mode))
    def choose_a_mode(self, mode: Mode) -> None:
        self.mode = mode

    @property
    def step(self) -> object:
        situation = Situation(
            self.point,
            frozenset(self.pending),
            bool(self.queue),
            self.monitor.in_critical_section,
        )
        return next_step(self.mode, situation)

    def paused(self) -> bool:
        return isinstance(self.step, Pause)

    @precondition(lambda self: not self.unwritten and not self.paused())
    @rule(name=names, arguments=json_objects)
    def model_begins_a_call(self, name: str, arguments: dict) -> None:
        self.calls += 1
        self.begin(Call(f"c{self.calls}", name, arguments))

    @precondition(lambda self: not self.unwritten and not self.paused() and self.pending)
    @rule()
    def model_begins_a_trap(self) -> None:
        self.begin(Trap())

    @precondition(lambda self: not self.unwritten and not self.paused())
    @rule(text=streams.filter(bool))
    def model_begins_a_text(self, text: str) -> None:
        self.begin(Text(text))

    def begin(self, piece: Piece) -> None:
        self.transcript.append(piece)
        self.begun = len(self.stream)
        if isinstance(piece, Text):
            self.unwritten = characters(escape(piece.text, before=spelled(self.stream)))
        else:
            self.unwritten = encode_tokens([piece], TOKEN_IDS, characters)
            self.text_begun = self.begun + len(self.unwritten)

    @precondition(lambda self: self.unwritten and not self.paused())
    @rule(length=st.integers(1, 60))
    def model_writes_on(self, length: int) -> None:
        written, self.unwritten = self.unwritten[:length], self.unwritten[length:]
        self.stream += written
        self.notice(self.monitor.feed(written))

    def notice(self, events: list[Event]) -> None:
        self.seen += events
        for event in events:
            self.point = self.point.after(event)
            if isinstance(event, Call):
                self.pending.add(event.id)

    @precondition(lambda self: self.pending)
    @rule(value=hostile_values(), chance=st.randoms(use_true_random=False))
    def a_result_arrives(self, value: str, chance: random.Random) -> None:
        call_id = chance.choice(sorted(self.pending))
        self.pending.remove(call_id)
        self.queue.append(Interrupt(call_id, value))

    @rule(message=hostile_values())
    def the_user_steers(self, message: str) -> None:
        self.queue.append(Interrupt.steering(message))

    @precondition(lambda self: isinstance(self.step, Inject))
    @rule()
    def the_runtime_injects(self) -> None:
        assert not self.monitor.in_critical_section
        self.notice(self.monitor.injected())
        unwritten = self.cut_off_unwritten()
        self.stream += encode_tokens(self.queue, TOKEN_IDS, characters)
        self.text_begun = len(self.stream)
        self.transcript += self.queue
        for piece in unwritten:
            self.begin(piece)
        self.queue = []
        self.point = Point.WRITING

    def cut_off_unwritten(self) -> list[Piece]:
        """Take from the transcript what is not written yet, of a text perhaps a part."""
        if not self.unwritten:
            return []
        piece = self.transcript.pop()
        if self.begun == len(self.stream):
            return [piece]
        assert isinstance(piece, Text), "an interrupt inside a frame"
        complete = ""
        while self.transcript and isinstance(text := self.transcript[-1], Text):
            complete = text.text + complete
            self.transcript.pop()
        # Cut apart, the halves of a quoted marker are plain text.
        (read,) = read_transcript(spelled(self.stream[self.text_begun :]))
        assert read.text.startswith(complete)
        self.transcript.append(read)
        return read_transcript(spelled(self.unwritten))

    @invariant()
    def nothing_is_injected_or_lost_unseen(self) -> None:
        if not self.unwritten:
            assert read_transcript(spelled(self.stream)) == joined(self.transcript)

    def teardown(self) -> None:
        self.notice(self.monitor.feed(self.unwritten))
        self.notice(self.monitor.end_of_stream())
        assert self.seen[-1] == EndOfStream()
        own = [piece for piece in self.transcript if not isinstance(piece, Interrupt)]
        assert joined(self.seen[:-1]) == joined(own)
        if not self.pending and not self.queue:
            assert self.step == End()


TestSessions = Sessions.TestCase
TestSessions.settings = settings(stateful_step_count=40)

STEERING = ["\x1f[HEAD]\x00", "[CALL]\x7f", "\x80</think>[TRAP][END]"]
JOINED = {
    "a_marker": (
        [
            ("[CALL]", [51], []),
            ("[CALL]", [1, 36], []),
            ("[CALL][CALL][CALL]", [3, 3, 1, 1, 3, 1, 1, 1, 1, 3, 3], ["", ""]),
            ("[CALL][CALL][CALL][", [1, 3, 1, 1, 1, 1, 1, 35], STEERING),
            ("END]", [38], []),
        ]
    ),
    "a_quoted_marker": [
        ("[CALL]", [1, 1, 1, 1, 1, 1, 1], []),
        ("[CALL]", [1, 3, 3], []),
        ("[CALL][CALL][", [1, 1, 1, 3, 3, 3, 3], []),
        ("~END]", [5], []),
    ],
    "a_quoted_marker_at_the_end": [
        ("[CALL]", [1, 1, 1, 1, 1, 1, 1], []),
        ("[CALL]", [1, 3, 3], []),
        ("[CALL][CALL][", [1, 1, 1, 3, 3, 3, 3], []),
        ("~END]", [], []),
    ],
}


@pytest.mark.parametrize("texts", JOINED.values(), ids=JOINED)
def test_texts_that_join_to_a_marker_are_the_texts_that_they_were(
    texts: list[tuple[str, list[int], list[str]]],
) -> None:
    """Each text is begun behind the last: with its pieces' lengths, and what the user says then."""
    session = Sessions()
    session.choose_a_mode(Mode.SYNC)
    for text, lengths, messages in texts:
        session.model_begins_a_text(text)
        for length in lengths:
            session.model_writes_on(length)
            session.nothing_is_injected_or_lost_unseen()
        for message in messages:
            session.the_user_steers(message)
    session.teardown()
    assert joined(session.seen[:-1]) == [Text("".join(text for text, _, _ in texts))]
