"""The table of calls and their results."""

from dataclasses import asdict

from pydantic import TypeAdapter

from caesura.session.database import Row, Statement
from caesura.session.records import CallRecord, CallState, Phase
from caesura.session.store.table import Table, dump, readable
from caesura.tools.call import CallResult, ToolCall

_COLUMNS = "id, session_id, turn, position, name, arguments, state, attempts, label"
_RESULT = TypeAdapter(CallResult)


class CallTable(Table):
    """A row per call."""

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
            (CallState.DONE, dump(asdict(result)), result.call_id),
        )

    def deliver_call(self, call_id: str) -> Statement:
        """The call's result is in the transcript, or will never be."""
        return Statement("UPDATE calls SET state = ? WHERE id = ?", (CallState.DELIVERED, call_id))

    async def undelivered_calls(
        self, session_id: str, *, with_results: bool = False
    ) -> list[CallRecord]:
        """A session's calls whose results the model does not have, in order.

        Results may be long: they are left out, unless they are asked for; then no call may be
        missing.
        """
        result = "result" if with_results else "NULL"
        rows = await self._database.read(
            f"SELECT {_COLUMNS}, {result}"
            " FROM calls WHERE session_id = ? AND state != ? ORDER BY turn, position",
            (session_id, CallState.DELIVERED),
        )
        return [_call(row) for row in rows] if with_results else readable(_call, rows)

    async def labels(self, session_id: str) -> dict[str, str]:
        """The calls that the model of a session has named: their ids by its names."""
        rows = await self._database.read(
            "SELECT label, id FROM calls WHERE session_id = ? AND label IS NOT NULL",
            (session_id,),
        )
        return {str(label): str(call_id) for label, call_id in rows}

    async def left_calls(self, session_id: str | None = None) -> list[CallRecord]:
        """Calls of sessions that are over, which go on without them; of all, or of one."""
        of = "" if session_id is None else " AND session_id = ?"
        rows = await self._database.read(
            f"SELECT {_COLUMNS}, NULL FROM calls WHERE state IN (?, ?){of} AND session_id IN"
            " (SELECT id FROM sessions WHERE phase = ?) ORDER BY created_seconds",
            (
                CallState.ISSUED,
                CallState.DISPATCHED,
                *([] if session_id is None else [session_id]),
                Phase.ENDED,
            ),
        )
        return readable(_call, rows)

    async def call(self, call_id: str) -> CallRecord | None:
        """One call, with its result; None if there is none of that id."""
        rows = await self._database.read(
            f"SELECT {_COLUMNS}, result FROM calls WHERE id = ?", (call_id,)
        )
        return _call(rows[0]) if rows else None


def _call(row: Row) -> CallRecord:
    call_id, session_id, turn, position, name, arguments, state, attempts, label, result = row
    call = ToolCall(call_id, name, arguments, session_id)
    given = _RESULT.validate_json(result) if result else None
    return CallRecord(call, turn, position, CallState(state), attempts, given, label)
