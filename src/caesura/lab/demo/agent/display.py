"""Recordings in the terminal: live where there is one, else one after the other as they end."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from caesura.lab.demo.agent.lanes import Cell, Lane, axis, lanes
from caesura.lab.demo.agent.play import Recording

_FRAME_SECONDS = 0.1
_LABEL = 10
_KIND = 7
_NOTE = 22
_MOST_COLUMNS = 90
_LEAST_COLUMNS = 20

_GLYPHS = {
    Cell.EMPTY: " ",
    Cell.WRITING: "█",
    Cell.PAUSED: "░",
    Cell.TRAP: "▼",
    Cell.ISSUING: "▪",
    Cell.RUNNING: "━",
    Cell.ARRIVED: "·",
    Cell.INJECTED: "◆",
}
_ASCII_GLYPHS = {
    Cell.EMPTY: " ",
    Cell.WRITING: "#",
    Cell.PAUSED: ".",
    Cell.TRAP: "v",
    Cell.ISSUING: "+",
    Cell.RUNNING: "=",
    Cell.ARRIVED: "-",
    Cell.INJECTED: "*",
}
_STYLES = {
    Cell.EMPTY: "",
    Cell.WRITING: "green",
    Cell.PAUSED: "bright_black",
    Cell.TRAP: "bold yellow",
    Cell.ISSUING: "bold green",
    Cell.RUNNING: "blue",
    Cell.ARRIVED: "blue",
    Cell.INJECTED: "bold magenta",
}


class AgentDisplay:
    """Draws recordings. Colours add nothing that the characters do not say.

    Args:
        console: where to.
        clock: the sessions'.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.perf_counter) -> None:
        self._console = console
        self._clock = clock
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        is_unicode = console.encoding.lower().startswith("utf")
        self._glyphs = _GLYPHS if is_unicode else _ASCII_GLYPHS
        self._cut = "…" if is_unicode else "..."
        frame = 2 + _LABEL + _KIND + 1 + _NOTE
        self._columns = min(max(console.width - frame - 1, _LEAST_COLUMNS), _MOST_COLUMNS)

    def legend(self) -> Text:
        """What the characters mean."""
        text = Text()
        for cell in Cell:
            if cell is not Cell.EMPTY:
                text.append(self._glyphs[cell], _STYLES[cell])
                text.append(f" {cell.value}   ", "dim")
        text.rstrip()
        return text

    @asynccontextmanager
    async def showing(self) -> AsyncIterator[Callable[[Recording], None]]:
        """While one recording is made: to be told of it whenever something happens.

        In a terminal it is drawn anew ten times per second, elsewhere once in the end.
        """
        shown: list[Recording] = []

        def note(recording: Recording) -> None:
            shown[:] = [recording]

        if not self._is_live:
            yield note
            self._console.print(*map(self.frame, shown))
            return
        with Live(console=self._console, auto_refresh=False) as live:

            def draw() -> None:
                live.update(Group(*map(self.frame, shown)), refresh=True)

            async def keep_drawing() -> None:
                while True:
                    draw()
                    await asyncio.sleep(_FRAME_SECONDS)

            task = asyncio.create_task(keep_drawing())
            try:
                yield note
            finally:
                task.cancel()
                draw()

    def frame(self, recording: Recording) -> Text:
        """The recording as it is now, in as many lines as it has lanes, and two more."""
        timeline = recording.timeline
        now = self._clock() if timeline.ended_at is None else timeline.ended_at
        on = axis(recording, now, self._columns)
        lines = [self._heading(recording, now, on.seconds)]
        lines += [self._line(lane) for lane in lanes(recording, now, on)]
        written = "".join(text for _, text in recording.written).strip()
        lines.append(Text("  " + "writes".ljust(_LABEL + _KIND), "dim"))
        lines[-1].append(self._tail(written), "default")
        return Text("\n").join(lines)

    def _heading(self, recording: Recording, now: float, axis_seconds: float) -> Text:
        elapsed = now - recording.timeline.began_at
        text = Text(f"{recording.mode.value:<{_LABEL + _KIND + 1}} ", "bold")
        text.append(f"{elapsed:.2f} s", "bold")
        if recording.timeline.ended_at is None:
            text.append("  ...", "dim")
        elif recording.mistakes:
            text.append("  wrong: " + "; ".join(recording.mistakes), "bold red")
        else:
            text.append("  correct", "green")
        text.append(f"   (the line is {axis_seconds:.1f} s long)", "dim")
        return text

    def _line(self, lane: Lane) -> Text:
        text = Text(f"  {lane.label:<{_LABEL}}")
        text.append(f"{lane.kind:<{_KIND}}", "dim")
        for cell in lane.cells:
            text.append(self._glyphs[cell], _STYLES[cell])
        text.append(f" {lane.note[:_NOTE]}", "dim")
        return text

    def _tail(self, text: str) -> str:
        """The end of a text, as much as fits, behind a mark where it was cut."""
        room = self._columns + 1 + _NOTE
        one_line = " ".join(text.split())
        if cell_len(one_line) <= room:
            return one_line
        while cell_len(self._cut + one_line) > room:
            one_line = one_line[1:]
        return self._cut + one_line
