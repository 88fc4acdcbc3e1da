"""The table of events."""

import json
from dataclasses import dataclass

from caesura.session.database import Row, Statement
from caesura.session.records import Event, EventType
from caesura.session.store.table import Table, dump, readable

PAGE_EVENTS = 256
_PAGE_BYTES = 2**20
_COLUMNS = "number, type, data, created_seconds"


@dataclass(frozen=True, slots=True)
class EventPage:
    """A part of a session's events.

    Attributes:
        events: those that can be read.
        last: number of the last that was looked at; None if there are no more.
    """

    events: list[Event]
    last: int | None


class EventTable(Table):
    """A row per event."""

    def add_event(self, session_id: str, event: Event) -> Statement:
        """Something that happened."""
        return Statement(
            f"INSERT INTO events (session_id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
            (session_id, event.number, event.type, dump(event.data), event.seconds),
        )

    async def events(self, session_id: str, after: int = 0) -> list[Event]:
        """Events with a number above `after`, in order."""
        rows = await self._database.read(
            f"SELECT {_COLUMNS} FROM events WHERE session_id = ? AND number > ? ORDER BY number",
            (session_id, after),
        )
        return readable(_event, rows)

    async def page_of_events(self, session_id: str, after: int) -> EventPage:
        """The next events with a number above `after`: a few, and not many bytes."""
        rows = await self._database.read(
            f"SELECT {_COLUMNS} FROM events WHERE session_id = ? AND number > ? ORDER BY number"
            " LIMIT ?",
            (session_id, after, PAGE_EVENTS),
            most_bytes=_PAGE_BYTES,
        )
        return EventPage(readable(_event, rows), rows[-1][0] if rows else None)

    async def last_event(self, session_id: str, kind: EventType) -> Event | None:
        """The latest event of a kind; None if there is none."""
        rows = await self._database.read(
            f"SELECT {_COLUMNS} FROM events WHERE session_id = ? AND type = ?"
            " ORDER BY number DESC LIMIT 1",
            (session_id, kind),
        )
        found = readable(_event, rows)
        return found[0] if found else None

    async def latest_answer(self, session_id: str) -> list[Event]:
        """The outputs that make up the latest answer, in order."""
        rows = await self._database.read(
            f"SELECT {_COLUMNS} FROM events WHERE session_id = ?1 AND type = ?2 AND number >"
            # After the latest output but one that ended an answer; found from the end.
            " COALESCE((SELECT number FROM events WHERE session_id = ?1 AND type = ?2"
            " AND number < (SELECT MAX(number) FROM events WHERE session_id = ?1 AND type = ?2)"
            " AND NOT COALESCE(json_extract(data, '$.continues'), FALSE)"
            " ORDER BY number DESC LIMIT 1), 0) ORDER BY number",
            (session_id, EventType.OUTPUT),
        )
        return readable(_event, rows)


def _event(row: Row) -> Event:
    number, kind, data, seconds = row
    return Event(number, EventType(kind), json.loads(data), seconds)
