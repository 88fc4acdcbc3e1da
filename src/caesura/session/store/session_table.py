"""The table of sessions."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter

from caesura.cml import Interrupt, Point
from caesura.session.calling import Course
from caesura.session.database import Check, Row, Statement
from caesura.session.errors import DuplicateSession
from caesura.session.records import Phase, SessionEnding, SessionRecord, SessionSpec
from caesura.session.store.table import Table, dump, readable

_NAMES = [field.name for field in fields(SessionRecord)]
_COLUMNS = ", ".join(_NAMES)
_RECORD = TypeAdapter(SessionRecord)


class SessionTable(Table):
    """A row per session."""

    def add_session(self, record: SessionRecord) -> Statement:
        """A new session."""
        columns = {name: getattr(record, name) for name in _NAMES}
        columns["spec"] = record.spec.model_dump_json()
        marks = ", ".join("?" * len(columns))
        return Statement(
            f"INSERT INTO sessions ({_COLUMNS}) VALUES ({marks})", (*columns.values(),)
        )

    def require_new(self, session_id: str) -> Check:
        """Refuse a second session of the same id."""
        return Check(
            "SELECT NOT EXISTS (SELECT 1 FROM sessions WHERE id = ?)",
            (session_id,),
            DuplicateSession(f"there is a session {session_id} already"),
        )

    def set_phase(self, session_id: str, phase: Phase, turns: int) -> Statement:
        """What the session does from now on."""
        return Statement(
            "UPDATE sessions SET phase = ?, turns = ?, updated_seconds = ? WHERE id = ?",
            (phase, turns, self.clock(), session_id),
        )

    def claim_events(self, session_id: str, next_event: int) -> Statement:
        """The session's events have numbers below this one."""
        return Statement(
            "UPDATE sessions SET next_event = ? WHERE id = ?", (next_event, session_id)
        )

    def set_held(self, session_id: str, held: bool) -> Statement:
        """Whether its user has paused it."""
        return Statement(
            "UPDATE sessions SET held = ?, updated_seconds = ? WHERE id = ?",
            (held, self.clock(), session_id),
        )

    def set_course(self, session_id: str, course: Course) -> Statement:
        """Where the session's model is from now on: at the end of its transcript."""
        stored = {
            "point": course.point.name,
            "generated_tokens": course.generated_tokens,
            "reasoning": course.reasoning,
            "rounds": course.rounds,
            "refused_ids": course.refused_ids,
            "told": [(error.id, error.value) for error in course.errors],
        }
        return Statement("UPDATE sessions SET course = ? WHERE id = ?", (dump(stored), session_id))

    async def course(self, session_id: str, position: int) -> Course:
        """Where the session's model is; `position` is the end of its transcript."""
        rows = await self._database.read("SELECT course FROM sessions WHERE id = ?", (session_id,))
        return _course(position, rows[0][0]) if rows and rows[0][0] else Course(position)

    def close_session(self, session_id: str, ending: SessionEnding, error: str | None) -> Statement:
        """The session is over."""
        return Statement(
            "UPDATE sessions SET phase = ?, ending = ?, error = ?, updated_seconds = ?"
            " WHERE id = ?",
            (Phase.ENDED, ending, error, self.clock(), session_id),
        )

    async def session(self, session_id: str) -> SessionRecord | None:
        """One session; None if there is none of that id."""
        rows = await self._database.read(
            f"SELECT {_COLUMNS} FROM sessions WHERE id = ?", (session_id,)
        )
        return _session(rows[0]) if rows else None

    async def sessions(
        self, owner: str, *, before_seconds: float | None = None, limit: int = 100
    ) -> list[SessionRecord]:
        """An owner's sessions, the newest first."""
        rows = await self._database.read(
            f"SELECT {_COLUMNS} FROM sessions WHERE owner = ? AND created_seconds < ?"
            " ORDER BY created_seconds DESC LIMIT ?",
            (owner, float("inf") if before_seconds is None else before_seconds, limit),
        )
        return readable(_session, rows)

    async def open_sessions(self) -> list[SessionRecord]:
        """All sessions that have not ended, the oldest first.

        One that cannot be read ends.
        """
        rows = await self._database.read(
            f"SELECT {_COLUMNS} FROM sessions WHERE phase != ? ORDER BY created_seconds",
            (Phase.ENDED,),
        )
        records = readable(_session, rows)
        unreadable = {str(row[0]) for row in rows} - {record.id for record in records}
        for session_id in unreadable:
            await self.end_unreadable(session_id)
        return records

    async def end_unreadable(self, session_id: str) -> None:
        """End a session that cannot be read."""
        error = "what is stored of it is damaged, or was written by a newer version"
        await self._database.write(self.close_session(session_id, SessionEnding.FAILED, error))

    async def delete_ended(
        self,
        before_seconds: float,
        limit: int = 1000,
        *,
        owner: str | None = None,
        but_of: Sequence[str] = (),
    ) -> int:
        """Forget sessions that ended before a time, the oldest first; how many.

        Args:
            before_seconds: the time.
            limit: how many at most.
            owner: whose; None for everybody's.
            but_of: owners whose sessions stay.
        """
        whose, of = ("", []) if owner is None else (" AND owner = ?", [owner])
        if but_of:
            whose += f" AND owner NOT IN ({', '.join('?' * len(but_of))})"
        return await self._database.write(
            Statement(
                "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE phase = ?"
                f" AND updated_seconds < ?{whose} ORDER BY updated_seconds LIMIT ?)",
                (Phase.ENDED, before_seconds, *of, *but_of, limit),
            )
        )


def _course(position: int, stored: str) -> Course:
    course = json.loads(stored)
    return Course(
        position,
        Point[course["point"]],
        course["generated_tokens"],
        course["reasoning"],
        course["rounds"],
        tuple(course["refused_ids"]),
        tuple(Interrupt(interrupt_id, value) for interrupt_id, value in course["told"]),
    )


def _session(row: Row) -> SessionRecord:
    columns: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
    spec = json.loads(columns["spec"])
    known = {name: spec[name] for name in SessionSpec.model_fields if name in spec}
    return _RECORD.validate_python(columns | {"spec": known})
