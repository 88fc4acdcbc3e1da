"""Recordings on the screen: what happened when, with and without a terminal, with and without
colours."""

import asyncio
import io
import re
from itertools import groupby

import pytest
from rich.console import Console

from caesura.cml import Mode
from caesura.lab.demo.agent.display import AgentDisplay
from caesura.lab.demo.agent.lanes import Axis, Cell, axis, lanes
from caesura.lab.demo.agent.play import Recording
from caesura.session.calling import CallIssued, Ended, Ending, FirstToken, Timeline
from lab.demo.recordings import (
    BEGAN,
    OWNER,
    QUESTION,
    all_modes,
    call,
    in_async,
    in_sync,
    under_way,
)

ESCAPE = "\x1b"


def stages(cells: tuple[Cell, ...]) -> list[Cell]:
    """What happens one after the other."""
    return [cell for cell, _ in groupby(cells)]


def test_lanes_tell_what_happens_one_after_the_other() -> None:
    recording = in_async()
    model, owner, stock = lanes(recording, 0.0, Axis(BEGAN, 1.0, 50))
    assert stages(model.cells) == [Cell.WRITING, Cell.TRAP, Cell.PAUSED, Cell.WRITING, Cell.EMPTY]
    assert stages(owner.cells) == [Cell.ISSUING, Cell.RUNNING, Cell.INJECTED, Cell.EMPTY]
    assert stages(stock.cells) == [
        *(Cell.EMPTY, Cell.ISSUING, Cell.RUNNING, Cell.ARRIVED, Cell.INJECTED, Cell.EMPTY)
    ]
    assert [lane.label for lane in (model, owner, stock)] == ["model", "owner1", "stock1"]
    assert [lane.kind for lane in (model, owner, stock)] == ["", "http", "python"]
    assert owner.note == "PQ27 after 0.70 s"
    assert model.cells.index(Cell.TRAP) == pytest.approx(25, abs=1)
    assert owner.cells.index(Cell.INJECTED) == pytest.approx(40, abs=1)


def test_a_model_that_waits_at_each_call_is_paused_twice() -> None:
    model, *_ = lanes(in_sync(), 0.0, Axis(BEGAN, 1.1, 110))
    assert stages(model.cells).count(Cell.PAUSED) == 2
    assert model.cells.count(Cell.PAUSED) == pytest.approx(80, abs=3)


def test_modes_of_a_question_share_an_axis_unless_one_takes_too_long() -> None:
    first, second, third = (axis(recording, BEGAN + 1.0, 60) for recording in all_modes())
    assert first == second == third
    assert axis(in_sync(), BEGAN + 50.0, 60).seconds == 50.0


def test_a_recording_that_ended_at_the_zero_of_its_clock_has_ended() -> None:
    recording = Recording(QUESTION, Mode.SYNC, Timeline(-1.0))
    for event in (
        FirstToken(10, -0.9, None),
        CallIssued(20, -0.5, call(OWNER), -0.8, 9),
        Ended(50, 0.0, Ending.LIMIT, None, frozenset()),
    ):
        recording.timeline.note(event)
    recording.timeline.calls[-1].started_at = -0.5
    _, owner = lanes(recording, 5.0, Axis(-1.0, 6.0, 60))
    assert set(owner.cells[11:]) == {Cell.EMPTY}


def test_times_beyond_the_axis_are_in_its_last_cell() -> None:
    on = Axis(BEGAN, 0.5, 10)
    assert on.column(BEGAN + 3.0) == 9
    assert all(len(lane.cells) == 10 for lane in lanes(in_sync(), 0.0, on))


def shown(recording: Recording, console: Console) -> None:
    async def scenario() -> None:
        async with AgentDisplay(console).showing() as note:
            note(recording)
            await asyncio.sleep(0)

    asyncio.run(scenario())


def test_without_a_terminal_each_recording_is_written_once_and_plain() -> None:
    written = io.StringIO()
    shown(in_async(), Console(file=written, width=100))
    lines = written.getvalue().splitlines()
    assert ESCAPE not in written.getvalue()
    assert len(lines) == 5
    assert re.match(r"async +0\.88 s  correct", lines[0])
    assert [line.split()[0] for line in lines[1:]] == ["model", "owner1", "stock1", "writes"]
    assert "<owner1> <stock1> One moment." in lines[-1]
    assert lines[-1].endswith("stock1: 3633.")


def test_a_terminal_is_drawn_anew_while_it_goes_on() -> None:
    written = io.StringIO()
    shown(under_way(), Console(file=written, width=100, force_terminal=True))
    assert ESCAPE in written.getvalue()
    assert "..." in written.getvalue()
    assert "runs" in written.getvalue()


def test_colours_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    written = io.StringIO()
    console = Console(file=written, width=100, force_terminal=True)
    console.print(AgentDisplay(console).frame(in_async()))
    assert not re.search(rf"{ESCAPE}\[[\d;]*3\dm", written.getvalue())


def test_terminals_without_unicode_get_ascii() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, width=100)
    display = AgentDisplay(console)
    assert str(display.frame(in_async())).isascii()
    assert str(display.legend()).isascii()


def test_a_wrong_answer_says_what_is_wrong() -> None:
    written = io.StringIO()
    shown(in_async("owner1: PQ27."), Console(file=written, width=120))
    assert "wrong: did not say stock of C0048: 3633" in written.getvalue()


def test_a_text_that_is_cut_says_so() -> None:
    for encoding, mark in (("utf-8", "…"), ("ascii", "...")):
        console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), width=80)
        *_, shown = str(AgentDisplay(console).frame(in_async("word " * 50))).splitlines()
        assert re.match(rf"  writes +{re.escape(mark)}(\w| )", shown)
        assert shown.endswith("word word")
    *_, whole = str(AgentDisplay(Console(width=120)).frame(in_async())).splitlines()
    assert whole.split(maxsplit=1)[1].startswith("<owner1>")


@pytest.mark.parametrize("width", [20, 80, 300])
def test_any_width_has_room(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    frame = str(AgentDisplay(console).frame(in_async("word " * 500)))
    assert all(len(line) < max(width, 80) for line in frame.splitlines()[1:])
