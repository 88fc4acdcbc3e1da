"""Recordings of sessions that were never held, moment by moment."""

import time

from caesura.cml import Call, Channel, Interrupt, Mode
from caesura.lab.demo.agent.play import Recording
from caesura.lab.demo.agent.questions import AgentQuestion, WantedCall
from caesura.lab.demo.agent.verdict import mistakes
from caesura.session.calling import (
    Arrival,
    CallingEvent,
    CallIssued,
    Ended,
    Ending,
    FirstToken,
    Injected,
    Paused,
    TextWritten,
    Timeline,
    Trapped,
)

BEGAN = 100.0
OWNER = WantedCall("owner", "K4821", "PQ27")
STOCK = WantedCall("stock", "C0048", "3633")
QUESTION = AgentQuestion(
    "two tools", "Who owns K4821, and how many of C0048 are there?", (OWNER, STOCK)
)
ANSWER = "owner1: PQ27. stock1: 3633."


def call(wanted: WantedCall) -> Call:
    parameter = "item"
    return Call(f"{wanted.tool}1", wanted.tool, {parameter: wanted.code})


class Play:
    """Notes events in a recording, at seconds after the question."""

    def __init__(self, mode: Mode, question: AgentQuestion = QUESTION) -> None:
        self.recording = Recording(question, mode, Timeline(BEGAN))
        self._note(FirstToken(10, BEGAN + 0.01, None))

    def issued(self, wanted: WantedCall, opened: float, at: float) -> None:
        self._note(CallIssued(20, BEGAN + at, call(wanted), BEGAN + opened, 9))
        self.recording.timeline.calls[-1].started_at = BEGAN + at

    def finished(self, wanted: WantedCall, at: float) -> None:
        made = call(wanted)
        (span,) = [one for one in self.recording.timeline.calls if one.id == made.id]
        span.finished_at = BEGAN + at
        self.recording.results[made.id] = wanted.value

    def injected(self, wanted: WantedCall, at: float) -> None:
        interrupt = Interrupt(call(wanted).id, wanted.value)
        self._note(Injected(30, BEGAN + at, (Arrival(interrupt),), 5))

    def trapped(self, at: float) -> None:
        self._note(Trapped(25, BEGAN + at))
        self.paused(at)

    def paused(self, at: float) -> None:
        self._note(Paused(25, BEGAN + at, frozenset(), None))

    def wrote(self, text: str, at: float) -> None:
        self._note(TextWritten(40, BEGAN + at, text, Channel.ANSWER))

    def ended(self, at: float) -> Recording:
        self._note(Ended(50, BEGAN + at, Ending.COMPLETED, None, frozenset()))
        self.recording.timeline.generated_tokens = 40
        self.recording.mistakes = mistakes(self.recording.question, self.recording.timeline)
        return self.recording

    def _note(self, event: CallingEvent) -> None:
        self.recording.timeline.note(event)
        self.recording.note(event)


def in_sync(answer: str = ANSWER) -> Recording:
    """1.1 s: owner from 0.1 to 0.8, stock from 0.9 to 1.0."""
    play = Play(Mode.SYNC)
    for wanted, opened, issued, done in ((OWNER, 0.0, 0.1, 0.8), (STOCK, 0.8, 0.9, 1.0)):
        play.issued(wanted, opened, issued)
        play.paused(issued)
        play.finished(wanted, done)
        play.injected(wanted, done)
    play.wrote(answer, 1.05)
    return play.ended(1.1)


def in_sync_parallel() -> Recording:
    """1.0 s: both calls from 0.2 on, both results at 0.9."""
    play = Play(Mode.SYNC_PARALLEL)
    play.issued(OWNER, 0.0, 0.1)
    play.issued(STOCK, 0.1, 0.2)
    play.paused(0.2)
    play.finished(STOCK, 0.3)
    play.finished(OWNER, 0.9)
    play.injected(STOCK, 0.9)
    play.injected(OWNER, 0.9)
    play.wrote(ANSWER, 0.95)
    return play.ended(1.0)


def in_async(answer: str = ANSWER, seconds: float = 0.88) -> Recording:
    """The stock is told while the owner is looked up, from 0.1 to 0.8; a trap at 0.5."""
    play = Play(Mode.ASYNC)
    play.issued(OWNER, 0.0, 0.1)
    play.issued(STOCK, 0.1, 0.2)
    play.wrote(" One moment.", 0.25)
    play.finished(STOCK, 0.3)
    play.injected(STOCK, 0.32)
    play.trapped(0.5)
    play.finished(OWNER, 0.8)
    play.injected(OWNER, 0.8)
    play.wrote(answer, 0.85)
    return play.ended(seconds)


def all_modes() -> list[Recording]:
    return [in_sync(), in_sync_parallel(), in_async()]


def under_way() -> Recording:
    """A call runs since half a second ago."""
    play = Play(Mode.ASYNC)
    play.recording.timeline.began_at = time.perf_counter() - 1
    began = play.recording.timeline.began_at - BEGAN
    play.recording.timeline.spans[0].began_at = play.recording.timeline.began_at
    play.issued(OWNER, began + 0.4, began + 0.5)
    return play.recording
