"""Events in Chrome's trace-event format (JSON), which Perfetto opens. No vLLM here.

Slices on one track follow or contain each other. What overlaps otherwise becomes a pair of
asynchronous events with an id of its own. Both are entered when they are over, so nothing in
a file is left open.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_EVENTS = 250_000
"""Per section; about 40 MB of JSON. What comes later is counted and not kept."""

PID = 1
"""Of the process, and of its first track: viewers show a thread with the process's id first."""

HEADER = '{"displayTimeUnit": "ms", "traceEvents": ['
"""First line of a file that we write; an event follows on each line."""

Args = Mapping[str, int | float | str]


def section_path(path: Path, number: int) -> Path:
    """Where the section of that number goes: `trace.json`, `trace.1.json`, `trace.2.json`, ..."""
    return path if number == 0 else path.with_suffix(f".{number}{path.suffix}")


def engine_path(path: Path, engine: int) -> Path:
    """Where the engine of that number in its server writes: `trace.json`, `trace.engine1.json`."""
    return path if engine == 0 else path.with_suffix(f".engine{engine}{path.suffix}")


@dataclass(frozen=True, slots=True)
class _Event:
    phase: str
    name: str
    ts: int
    tid: int = PID
    duration: int = 0
    id: str = ""
    args: Args = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        record: dict[str, object] = {
            "ph": self.phase,
            "name": self.name,
            "pid": PID,
            "tid": self.tid,
            "ts": self.ts,
        }
        if self.phase == "X":
            record["dur"] = self.duration
        elif self.phase == "i":
            record["s"] = "t"
        elif self.id:
            record["cat"] = self.name
            record["id2"] = {"local": self.id}  # ids count within the process only
        if self.args:
            record["args"] = self.args
        return record


class TraceEvents:
    """The events of one section: a process in the viewer, with named tracks.

    Args:
        name: of the process.
        origin_seconds: what becomes time 0.
        max_events: kept at most.

    Attributes:
        dropped: events that came when it was full.
    """

    def __init__(self, name: str, origin_seconds: float, max_events: int = MAX_EVENTS) -> None:
        self.dropped = 0
        self._name = name
        self._origin_seconds = origin_seconds
        self._max_events = max_events
        self._events: list[_Event] = []
        self._tracks: dict[str, int] = {}
        self._levels: dict[str, Args] = {}
        self._full_since = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def full(self) -> bool:
        """Whether nothing more is kept."""
        return len(self._events) >= self._max_events

    def name_track(self, track: str) -> None:
        """Enter a track; they are shown in the order in which they are entered."""
        self._tid(track)

    def slice(self, track: str, name: str, began: float, ended: float, args: Args) -> None:
        """Something that is alone on its track, or inside of another slice."""
        start, stop = self._ts(began), self._ts(ended)
        self._add(_Event("X", name, start, self._tid(track), max(0, stop - start), args=args))

    def overlapping(self, name: str, id: str, began: float, ended: float, args: Args) -> None:
        """Something that may overlap with others of its name; ids are unique per name."""
        start = self._ts(began)
        self._add(_Event("b", name, start, id=id, args=args))
        if not self.full:
            self._add(_Event("e", name, max(start, self._ts(ended)), id=id))
        elif self._events and self._events[-1].id == id:
            self._events.pop()  # not without its end
            self.dropped += 1

    def instant(self, track: str, name: str, at: float, args: Args) -> None:
        """Something that takes no time."""
        self._add(_Event("i", name, self._ts(at), self._tid(track), args=args))

    def levels(self, name: str, at: float, values: Args) -> None:
        """Values of counters from now on; entered when they change."""
        if self._levels.get(name) != values:
            self._levels[name] = values
            self._add(_Event("C", name, self._ts(at), args=values))

    def write(self, path: Path) -> None:
        """Write a file that trace viewers can open."""
        events = sorted(self._events, key=lambda event: (event.ts, -event.duration))
        records = [*self._metadata(), *(event.to_json() for event in events)]
        other: dict[str, object] = {"clock": "seconds of the scheduler, 0 at the section's start"}
        if self.dropped:
            note = f"truncated: {self.dropped} later events were not kept"
            records.append(_Event("i", note, self._full_since).to_json() | {"s": "p"})
            other["truncated"] = note
        write_trace(path, records, other)

    def _metadata(self) -> list[dict[str, object]]:
        name = f"{self._name} (truncated)" if self.dropped else self._name
        records = [_metadata_record("process_name", PID, name=name)]
        for track, tid in self._tracks.items():
            records.append(_metadata_record("thread_name", tid, name=track))
            records.append(_metadata_record("thread_sort_index", tid, sort_index=tid))
        return records

    def _add(self, event: _Event) -> None:
        if self.full:
            self._full_since = self._full_since or event.ts
            self.dropped += 1
        else:
            self._events.append(event)

    def _ts(self, seconds: float) -> int:
        return max(0, round((seconds - self._origin_seconds) * 1e6))

    def _tid(self, track: str) -> int:
        return self._tracks.setdefault(track, PID + len(self._tracks))


def write_trace(
    path: Path, records: Iterable[Mapping[str, object]], other: Mapping[str, object]
) -> None:
    """Write events as a trace file, one per line, and what else is known once they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        for number, record in enumerate(records):
            file.write(",\n" if number else "\n")
            file.write(json.dumps(record))
        file.write('\n], "otherData": ' + json.dumps(other) + "}\n")


def _metadata_record(kind: str, tid: int, **args: int | str) -> dict[str, object]:
    return {"ph": "M", "name": kind, "pid": PID, "tid": tid, "ts": 0, "args": args}
