"""A recording as lanes of cells, whatever they are drawn with: one for the model, one per call."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from caesura.bundled.world import ENDPOINTS
from caesura.lab.demo.agent.play import Recording
from caesura.session.calling import CallSpan, SpanKind

_LEAST_SHARE = 0.2  # of a cell, for generating to be seen in it
_MARGIN = 1.35  # of declared times, since they have jitter and tokens take time too
_MARGIN_SECONDS = 0.3


class Cell(Enum):
    """What happens in a stretch of time."""

    EMPTY = "empty"
    WRITING = "the model writes"
    PAUSED = "the model is paused"
    TRAP = "trap: the model says that it must wait"
    ISSUING = "a call is written"
    RUNNING = "its tool runs"
    ARRIVED = "its result waits"
    INJECTED = "the model has its result"


@dataclass(frozen=True, slots=True)
class Lane:
    """One line.

    Attributes:
        label: whose.
        kind: of a call's endpoint; empty for the model.
        cells: from the question on, all of the same length in time.
        note: what came of it.
    """

    label: str
    kind: str
    cells: tuple[Cell, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Where times are on a line.

    Attributes:
        begin: time of the first cell, in seconds.
        seconds: length of all cells.
        columns: how many there are.
    """

    begin: float
    seconds: float
    columns: int

    def column(self, at: float) -> int:
        """The cell of a time; the first or the last for times outside."""
        place = int((at - self.begin) / self.seconds * self.columns)
        return min(max(place, 0), self.columns - 1)

    def overlap(self, column: int, begin: float, end: float) -> float:
        """Which share of a cell is in a stretch of time."""
        width = self.seconds / self.columns
        left = self.begin + column * width
        return max(0.0, min(end, left + width) - max(begin, left)) / width


def axis(recording: Recording, now: float, columns: int) -> Axis:
    """The same axis for all modes of a question, unless one takes longer than was expected."""
    planned = recording.question.tools_seconds * _MARGIN + _MARGIN_SECONDS
    began = recording.timeline.began_at
    return Axis(began, max(planned, now - began), columns)


def lanes(recording: Recording, now: float, on: Axis) -> list[Lane]:
    """All lanes, as they are known at a time."""
    if recording.timeline.ended_at is not None:
        now = recording.timeline.ended_at
    calls = [
        Lane(
            call.id or call.name,
            ENDPOINTS.get(call.name, ""),
            _overlaid(on, _call_cells(call, now, on)),
            _note(call, recording),
        )
        for call in recording.timeline.calls
    ]
    tokens = f"{recording.timeline.generated_tokens} tokens"
    return [Lane("model", "", _model_cells(recording, now, on), tokens), *calls]


def _model_cells(recording: Recording, now: float, on: Axis) -> tuple[Cell, ...]:
    shares = {kind: [0.0] * on.columns for kind in SpanKind}
    for span in recording.timeline.spans:
        end = now if span.ended_at is None else span.ended_at
        for column in _columns(on, span.began_at, end):
            shares[span.kind][column] += on.overlap(column, span.began_at, end)
    cells = [Cell.EMPTY] * on.columns
    for column in range(on.columns):
        writing, paused = (shares[kind][column] for kind in (SpanKind.GENERATING, SpanKind.PAUSED))
        if writing >= _LEAST_SHARE or writing > paused:
            cells[column] = Cell.WRITING
        elif paused:
            cells[column] = Cell.PAUSED
    for at in recording.traps:
        cells[on.column(at)] = Cell.TRAP
    return tuple(cells)


def _call_cells(call: CallSpan, now: float, on: Axis) -> Iterator[tuple[int, Cell]]:
    """The cells of a call; later ones stand over earlier ones."""
    stages = (
        (call.opened_at, call.issued_at, Cell.ISSUING),
        (call.started_at, call.finished_at, Cell.RUNNING),
        (call.finished_at, call.injected_at, Cell.ARRIVED),
    )
    for begin, end, cell in stages:
        if begin is not None:
            for column in _columns(on, begin, now if end is None else end):
                yield column, cell
    yield on.column(call.opened_at), Cell.ISSUING
    if call.injected_at is not None:
        yield on.column(call.injected_at), Cell.INJECTED


def _overlaid(on: Axis, cells: Iterable[tuple[int, Cell]]) -> tuple[Cell, ...]:
    line = [Cell.EMPTY] * on.columns
    for column, cell in cells:
        line[column] = cell
    return tuple(line)


def _columns(on: Axis, begin: float, end: float) -> range:
    return range(on.column(begin), on.column(end) + 1)


def _note(call: CallSpan, recording: Recording) -> str:
    result = recording.results.get(call.id or "")
    if result is None or call.execution_seconds is None:
        return "runs"
    return f"{result} after {call.execution_seconds:.2f} s"
