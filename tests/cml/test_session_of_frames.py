"""Whole sessions: a model and tools that may be hostile, a runtime that keeps the rules."""

import random

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
    MonitorSettings,
    Pause,
    Piece,
    Point,
    Situation,
    Text,
    TextMonitor,
    Trap,
    encode_text,
    next_step,
    read_transcript,
)
from cml_support import FRAGMENTS, joined, json_objects, names, pieces, streams


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
        self.monitor = TextMonitor(MonitorSettings())
        self.transcript: list[Piece] = []
        self.stream = ""
        self.unwritten = ""
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
        self.unwritten = encode_text([piece])

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
        self.stream += encode_text(self.queue)
        unwritten = self.cut_off_unwritten()
        self.transcript += [*self.queue, *unwritten]
        self.queue = []
        self.point = Point.WRITING

    def cut_off_unwritten(self) -> list[Piece]:
        """Take from the transcript what is not written yet, of a text perhaps a part."""
        if not self.unwritten:
            return []
        piece = self.transcript.pop()
        written = encode_text([piece]).removesuffix(self.unwritten)
        if not written:
            return [piece]
        assert isinstance(piece, Text), "an interrupt inside a frame"
        # Cut apart, the halves of a quoted marker are plain text.
        self.transcript += read_transcript(written)
        return read_transcript(self.unwritten)

    @invariant()
    def nothing_is_injected_or_lost_unseen(self) -> None:
        if not self.unwritten:
            assert read_transcript(self.stream) == joined(self.transcript)

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
