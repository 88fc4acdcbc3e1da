"""The table of events."""

import json

from caesura.session.database import Row, Statement
from caesura.session.records import Event, EventType
from caesura.session.store.table import Table, dump, readable

_COLUMNS = "number, type, data, created_seconds"


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

    async def last_event(self, session_id: str, kind: EventType) -> Event | None:
        """The latest event of a kind; None if there is none."""
        rows = await self._database.read(
            f"SELECT {_COLUMNS} FROM events WHERE session_id = ? AND type = ?"
            " ORDER BY number DESC LIMIT 1",
            (session_id, kind),
        )
        return _event(rows[0]) if rows else None

    async def latest_answer(self, session_id: str) -> list[Event]:
        """The outputs that make up the latest answer, in order."""
        rows = await self._database.read(
            f"SELECT {_COLUMNS} FROM events WHERE session_id = ?1"
            " AND type = ?2 AND number > COALESCE((SELECT MAX(number) FROM events"
            " WHERE session_id = ?1 AND type = ?2"
            " AND NOT COALESCE(json_extract(data, '$.continues'), 0) AND number <"
            " (SELECT MAX(number) FROM events WHERE session_id = ?1 AND type = ?2)), 0)"
            " ORDER BY number",
            (session_id, EventType.OUTPUT),
        )
        return readable(_event, rows)


def _event(row: Row) -> Event:
    number, kind, data, seconds = row
    return Event(number, EventType(kind), json.loads(data), seconds)
