"""Sessions on disk: what must survive a crash, and the statements that write it.

A change of a session is made of several statements that are committed together, so the
methods that change something give a `Statement`, and `commit` takes as many as belong together.
"""

import json
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from caesura.session.database import Database, Row, Statement
from caesura.session.records import (
    ApprovalRecord,
    ApprovalState,
    CallRecord,
    CallState,
    Course,
    Event,
    EventType,
    Phase,
    SessionEnding,
    SessionRecord,
    SessionSpec,
)
from caesura.tools.call import (
    Answer,
    CallEnding,
    CallResult,
    Question,
    QuestionKind,
    ToolCall,
)

_SESSION = (
    "id, owner, spec, phase, held, turns, ending, error, next_event, created_seconds,"
    " updated_seconds"
)
_CALL = "id, session_id, turn, position, name, arguments, state, attempts, label"


class Store:
    """All sessions, in one database.

    Args:
        path: the SQLite file.
        clock: wall-clock seconds.

    Raises:
        ConfigurationError: the file cannot be used.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(path)
        self.clock = clock

    async def commit(self, *changes: Statement) -> None:
        """Write changes that belong together; on return they are on disk."""
        await self._database.write(*changes)

    def close(self) -> None:
        """Write what was submitted and close the file."""
        self._database.close()

    # Sessions

    def add_session(self, record: SessionRecord) -> Statement:
        """A new session."""
        return Statement(
            f"INSERT INTO sessions ({_SESSION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id,
                record.owner,
                record.spec.model_dump_json(),
                record.phase,
                int(record.held),
                record.turns,
                record.ending,
                record.error,
                record.next_event,
                record.created_seconds,
                record.updated_seconds,
            ),
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
            (int(held), self.clock(), session_id),
        )

    def set_course(self, session_id: str, course: Course) -> Statement:
        """Where the session's model is in its turn from now on."""
        return Statement(
            "UPDATE sessions SET course = ? WHERE id = ?", (course.model_dump_json(), session_id)
        )

    async def course(self, session_id: str) -> Course:
        """Where the session's model is in its turn."""
        rows = await self._database.read("SELECT course FROM sessions WHERE id = ?", (session_id,))
        return Course.model_validate_json(rows[0][0]) if rows and rows[0][0] else Course()

    def end_session(
        self, session_id: str, ending: SessionEnding, error: str | None
    ) -> Sequence[Statement]:
        """The session is over; what it asked humans is withdrawn."""
        now = self.clock()
        return (
            Statement(
                "UPDATE sessions SET phase = ?, ending = ?, error = ?, updated_seconds = ?"
                " WHERE id = ?",
                (Phase.ENDED, ending, error, now, session_id),
            ),
            Statement("DELETE FROM inbox WHERE session_id = ?", (session_id,)),
            Statement(
                "UPDATE approvals SET state = ?, answered_seconds = ? WHERE session_id = ?"
                " AND state = ?",
                (ApprovalState.WITHDRAWN, now, session_id, ApprovalState.WAITING),
            ),
        )

    async def session(self, session_id: str) -> SessionRecord | None:
        """One session; None if there is none of that id."""
        rows = await self._database.read(
            f"SELECT {_SESSION} FROM sessions WHERE id = ?", (session_id,)
        )
        return _session(rows[0]) if rows else None

    async def sessions(
        self, owner: str, *, before_seconds: float | None = None, limit: int = 100
    ) -> list[SessionRecord]:
        """An owner's sessions, the newest first."""
        rows = await self._database.read(
            f"SELECT {_SESSION} FROM sessions WHERE owner = ? AND created_seconds < ?"
            " ORDER BY created_seconds DESC LIMIT ?",
            (owner, float("inf") if before_seconds is None else before_seconds, limit),
        )
        return [_session(row) for row in rows]

    async def open_sessions(self) -> list[SessionRecord]:
        """All sessions that have not ended, the oldest first."""
        rows = await self._database.read(
            f"SELECT {_SESSION} FROM sessions WHERE phase != ? ORDER BY created_seconds",
            (Phase.ENDED,),
        )
        return [_session(row) for row in rows]

    async def count_open(self, owner: str) -> int:
        """An owner's sessions that have not ended."""
        rows = await self._database.read(
            "SELECT COUNT(*) FROM sessions WHERE owner = ? AND phase != ?", (owner, Phase.ENDED)
        )
        return int(rows[0][0])

    async def delete_ended(self, before_seconds: float, limit: int = 1000) -> int:
        """Forget sessions that ended before a time, the oldest first; how many."""
        return await self._database.write(
            Statement(
                "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE phase = ?"
                " AND updated_seconds < ? ORDER BY updated_seconds LIMIT ?)",
                (Phase.ENDED, before_seconds, limit),
            )
        )

    async def size_bytes(self) -> int:
        """Size of what is stored."""
        rows = await self._database.read(
            "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count,"
            " pragma_freelist_count, pragma_page_size"
        )
        return int(rows[0][0])

    # Transcripts

    def add_tokens(self, session_id: str, first: int, token_ids: Sequence[int]) -> Statement:
        """Tokens at positions `first`, `first + 1`, ... of the transcript."""
        return Statement(
            "INSERT INTO transcript (session_id, first, token_ids) VALUES (?, ?, ?)",
            (session_id, first, _pack(token_ids)),
        )

    async def transcript(self, session_id: str) -> list[int]:
        """All tokens of a session."""
        rows = await self._database.read(
            "SELECT token_ids FROM transcript WHERE session_id = ? ORDER BY first", (session_id,)
        )
        return [token for row in rows for token in _unpack(row[0])]

    # Calls

    def add_call(self, record: CallRecord) -> Statement:
        """A call that the model has made."""
        call = record.call
        return Statement(
            "INSERT INTO calls (id, session_id, turn, position, name, arguments, state, label,"
            " created_seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                call.id,
                call.session_id,
                record.turn,
                record.position,
                call.name,
                call.arguments_text,
                record.state,
                record.label,
                self.clock(),
            ),
        )

    def dispatch_call(self, call_id: str, attempt: int) -> Statement:
        """The call's tool is about to be run."""
        return Statement(
            "UPDATE calls SET state = ?, attempts = ? WHERE id = ?",
            (CallState.DISPATCHED, attempt, call_id),
        )

    def finish_call(self, result: CallResult) -> Statement:
        """The call has a result."""
        return Statement(
            "UPDATE calls SET state = ?, result = ? WHERE id = ?",
            (CallState.DONE, _dump(asdict(result)), result.call_id),
        )

    def withdraw_questions(self, call_id: str) -> Statement:
        """What the call asked humans does not wait any more."""
        return Statement(
            "UPDATE approvals SET state = ?, answered_seconds = ? WHERE call_id = ? AND state = ?",
            (ApprovalState.WITHDRAWN, self.clock(), call_id, ApprovalState.WAITING),
        )

    def deliver_call(self, call_id: str) -> Statement:
        """The call's result is in the transcript, or will never be."""
        return Statement("UPDATE calls SET state = ? WHERE id = ?", (CallState.DELIVERED, call_id))

    async def calls(self, session_id: str) -> list[CallRecord]:
        """A session's calls in order."""
        rows = await self._database.read(
            f"SELECT {_CALL}, result FROM calls WHERE session_id = ? ORDER BY turn, position",
            (session_id,),
        )
        return [_call(row) for row in rows]

    async def undelivered_calls(
        self, session_id: str, *, with_results: bool = False
    ) -> list[CallRecord]:
        """A session's calls whose results the model does not have, in order.

        Results may be long: they are left out, unless they are asked for.
        """
        result = "result" if with_results else "NULL"
        rows = await self._database.read(
            f"SELECT {_CALL}, {result}"
            " FROM calls WHERE session_id = ? AND state != ? ORDER BY turn, position",
            (session_id, CallState.DELIVERED),
        )
        return [_call(row) for row in rows]

    async def labels(self, session_id: str) -> dict[str, str]:
        """The calls that the model of a session has named: their ids by its names."""
        rows = await self._database.read(
            "SELECT label, id FROM calls WHERE session_id = ? AND label IS NOT NULL",
            (session_id,),
        )
        return {str(label): str(call_id) for label, call_id in rows}

    async def left_calls(self) -> list[CallRecord]:
        """Calls of sessions that are over, which go on without them."""
        rows = await self._database.read(
            f"SELECT {_CALL}, NULL FROM calls WHERE state IN (?, ?) AND session_id IN"
            " (SELECT id FROM sessions WHERE phase = ?) ORDER BY created_seconds",
            (CallState.ISSUED, CallState.DISPATCHED, Phase.ENDED),
        )
        return [_call(row) for row in rows]

    async def call(self, call_id: str) -> CallRecord | None:
        """One call, with its result; None if there is none of that id."""
        rows = await self._database.read(
            f"SELECT {_CALL}, result FROM calls WHERE id = ?", (call_id,)
        )
        return _call(rows[0]) if rows else None

    # Messages that wait to be delivered

    def add_message(self, session_id: str, text: str) -> Statement:
        """A user's message, to be delivered to the model."""
        return Statement(
            "INSERT INTO inbox (session_id, message, created_seconds) VALUES (?, ?, ?)",
            (session_id, text, self.clock()),
        )

    def take_messages(self, session_id: str, last: int) -> Statement:
        """The messages up to a number were delivered."""
        return Statement("DELETE FROM inbox WHERE session_id = ? AND id <= ?", (session_id, last))

    async def messages(self, session_id: str) -> list[tuple[int, str]]:
        """Numbers and texts of the messages that wait."""
        rows = await self._database.read(
            "SELECT id, message FROM inbox WHERE session_id = ? ORDER BY id", (session_id,)
        )
        return [(int(number), str(text)) for number, text in rows]

    # Events

    def add_event(self, session_id: str, event: Event) -> Statement:
        """Something that happened."""
        return Statement(
            "INSERT INTO events (session_id, number, type, data, created_seconds)"
            " VALUES (?, ?, ?, ?, ?)",
            (session_id, event.number, event.type, _dump(event.data), event.seconds),
        )

    async def events(self, session_id: str, after: int = 0) -> list[Event]:
        """Events with a number above `after`, in order."""
        rows = await self._database.read(
            "SELECT number, type, data, created_seconds FROM events WHERE session_id = ?"
            " AND number > ? ORDER BY number",
            (session_id, after),
        )
        return [_event(row) for row in rows]

    async def last_event(self, session_id: str, kind: EventType) -> Event | None:
        """The latest event of a kind; None if there is none."""
        rows = await self._database.read(
            "SELECT number, type, data, created_seconds FROM events WHERE session_id = ?"
            " AND type = ? ORDER BY number DESC LIMIT 1",
            (session_id, kind),
        )
        return _event(rows[0]) if rows else None

    async def latest_answer(self, session_id: str) -> list[Event]:
        """The outputs that make up the latest answer, in order."""
        rows = await self._database.read(
            "SELECT number, type, data, created_seconds FROM events WHERE session_id = ?1"
            " AND type = ?2 AND number > COALESCE((SELECT MAX(number) FROM events"
            " WHERE session_id = ?1 AND type = ?2"
            " AND NOT COALESCE(json_extract(data, '$.continues'), 0) AND number <"
            " (SELECT MAX(number) FROM events WHERE session_id = ?1 AND type = ?2)), 0)"
            " ORDER BY number",
            (session_id, EventType.OUTPUT),
        )
        return [_event(row) for row in rows]

    # Approvals

    def add_approval(self, question: Question) -> Statement:
        """A question to a human; nothing if it was asked before."""
        return Statement(
            "INSERT OR IGNORE INTO approvals (key, session_id, call_id, question, state,"
            " created_seconds) VALUES (?, ?, ?, ?, ?, ?)",
            (
                question.key,
                question.session_id,
                question.call_id,
                _dump(asdict(question)),
                ApprovalState.WAITING,
                self.clock(),
            ),
        )

    def notified(self, key: str) -> Statement:
        """Somebody was told that the question waits."""
        return Statement("UPDATE approvals SET notified = 1 WHERE key = ?", (key,))

    async def answer(self, key: str, answer: Answer) -> bool:
        """Write a human's answer; False if the question does not wait any more."""
        changed = await self._database.write(
            Statement(
                "UPDATE approvals SET state = ?, answer = ?, answered_seconds = ? WHERE key = ?"
                " AND state = ?",
                (
                    ApprovalState.ANSWERED,
                    _dump(asdict(answer)),
                    self.clock(),
                    key,
                    ApprovalState.WAITING,
                ),
            )
        )
        return changed == 1

    async def approval(self, key: str) -> ApprovalRecord | None:
        """One question; None if there is none of that key."""
        rows = await self._approvals("key = ?", (key,))
        return rows[0] if rows else None

    async def approvals(
        self,
        owner: str | None,
        state: ApprovalState | None = None,
        *,
        after_seconds: float | None = None,
        before_seconds: float | None = None,
        limit: int = 1000,
    ) -> list[ApprovalRecord]:
        """Questions of an owner's sessions (of everybody's for None).

        First those that wait, the oldest first; then the others, the newest first.

        Args:
            owner: of their sessions.
            state: that they have; all by default.
            after_seconds: of those that wait, only what was asked later.
            before_seconds: nothing that waits, and of the others only what was asked earlier.
            limit: how many at most.
        """
        waiting = ApprovalState.WAITING
        after = float("-inf") if after_seconds is None else after_seconds
        before = float("inf") if before_seconds is None else before_seconds
        return await self._approvals(
            "(? IS NULL OR owner = ?) AND (? IS NULL OR state = ?) AND CASE state WHEN ?"
            " THEN ? AND approvals.created_seconds > ? ELSE approvals.created_seconds < ? END",
            (owner, owner, state, state, waiting, before_seconds is None, after, before),
            limit,
        )

    async def waiting_questions(self) -> dict[str, int]:
        """How many questions of each session wait."""
        rows = await self._database.read(
            "SELECT session_id, COUNT(*) FROM approvals WHERE state = ? GROUP BY session_id",
            (ApprovalState.WAITING,),
        )
        return {str(session_id): int(questions) for session_id, questions in rows}

    async def session_approvals(
        self, session_id: str, state: ApprovalState
    ) -> list[ApprovalRecord]:
        """Questions of one session in one state, in the order of `approvals`."""
        return await self._approvals("session_id = ? AND state = ?", (session_id, state))

    async def unnotified(self) -> list[ApprovalRecord]:
        """Questions that wait and that nobody was told of."""
        return await self._approvals("state = ? AND notified = 0", (ApprovalState.WAITING,))

    async def _approvals(
        self, condition: str, parameters: Sequence[object], limit: int = 1000
    ) -> list[ApprovalRecord]:
        rows = await self._database.read(
            "SELECT question, owner, state, answer, approvals.created_seconds, answered_seconds"
            " FROM approvals JOIN sessions ON sessions.id = session_id"
            f" WHERE {condition.replace('state', 'approvals.state')}"
            " ORDER BY approvals.state != ?, CASE approvals.state WHEN ?"
            " THEN approvals.created_seconds ELSE -approvals.created_seconds END LIMIT ?",
            (*parameters, ApprovalState.WAITING, ApprovalState.WAITING, limit),
        )
        return [_approval(row) for row in rows]


def _pack(token_ids: Sequence[int]) -> bytes:
    packed = array("I", token_ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _unpack(blob: bytes) -> "array[int]":
    packed = array("I")
    packed.frombytes(blob)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _session(row: Row) -> SessionRecord:
    (session_id, owner, spec, phase, held, turns, ending, error, next_event, created, updated) = row
    return SessionRecord(
        session_id,
        owner,
        SessionSpec.model_validate_json(spec),
        Phase(phase),
        bool(held),
        turns,
        SessionEnding(ending) if ending else None,
        error,
        next_event,
        created,
        updated,
    )


def _call(row: Row) -> CallRecord:
    call_id, session_id, turn, position, name, arguments, state, attempts, label, result = row
    stored = json.loads(result) if result else None
    return CallRecord(
        ToolCall(call_id, name, arguments, session_id),
        turn,
        position,
        CallState(state),
        attempts,
        CallResult(**stored | {"ending": CallEnding(stored["ending"])}) if stored else None,
        label,
    )


def _event(row: Row) -> Event:
    number, kind, data, seconds = row
    return Event(number, EventType(kind), json.loads(data), seconds)


def _approval(row: Row) -> ApprovalRecord:
    question, owner, state, answer, created, answered = row
    asked = json.loads(question)
    asked |= {"kind": QuestionKind(asked["kind"]), "choices": tuple(asked["choices"])}
    return ApprovalRecord(
        Question(**asked),
        owner,
        ApprovalState(state),
        Answer(**json.loads(answer)) if answer else None,
        created,
        answered,
    )
