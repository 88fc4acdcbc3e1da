"""The table of questions to humans and their answers."""

from collections.abc import Sequence
from dataclasses import asdict

from pydantic import TypeAdapter

from caesura.session.database import Check, Row, Statement
from caesura.session.records import ApprovalRecord, ApprovalState
from caesura.session.store.table import Table, dump, readable
from caesura.tools.call import Answer, Question

# `asked` are the approvals, `of` their sessions: both have a state and times of their own.
_SELECT = (
    "SELECT asked.question, of.owner, asked.state, asked.answer, asked.created_seconds,"
    " asked.answered_seconds FROM approvals AS asked JOIN sessions AS of"
    " ON of.id = asked.session_id"
)
_QUESTION = TypeAdapter(Question)
_ANSWER = TypeAdapter(Answer)
_IN_ORDER = (
    "ORDER BY asked.state != ?, CASE asked.state WHEN ? THEN asked.created_seconds"
    " ELSE -asked.created_seconds END LIMIT ?"
)


class _NotWaitingError(Exception):
    """The question was answered or withdrawn before."""


class ApprovalTable(Table):
    """A row per question."""

    def add_approval(self, question: Question) -> Statement:
        """A question to a human; nothing if it was asked before."""
        return Statement(
            "INSERT INTO approvals (key, session_id, call_id, question, state,"
            " created_seconds) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                question.key,
                question.session_id,
                question.call_id,
                dump(asdict(question)),
                ApprovalState.WAITING,
                self.clock(),
            ),
        )

    def notified(self, key: str) -> Statement:
        """Somebody was told that the question waits."""
        return Statement("UPDATE approvals SET notified = TRUE WHERE key = ?", (key,))

    def withdraw_questions(self, call_id: str) -> Statement:
        """What the call asked humans does not wait any more."""
        return self._withdraw("call_id", call_id)

    def withdraw_all_questions(self, session_id: str) -> Statement:
        """What the session asked humans does not wait any more."""
        return self._withdraw("session_id", session_id)

    def _withdraw(self, column: str, of: str) -> Statement:
        return Statement(
            "UPDATE approvals SET state = ?, answered_seconds = ?"
            f" WHERE {column} = ? AND state = ?",
            (ApprovalState.WITHDRAWN, self.clock(), of, ApprovalState.WAITING),
        )

    async def answer(
        self,
        key: str,
        answer: Answer,
        first: Sequence[Statement | Check] = (),
        then: Sequence[Statement | Check] = (),
    ) -> bool:
        """Write a human's answer; False if the question does not wait any more.

        Args:
            key: the question.
            answer: the answer.
            first: what is written or must hold before it.
            then: what is written or must hold after it.
        """
        waits = Check(
            "SELECT COUNT(*) FROM approvals WHERE key = ? AND state = ?",
            (key, ApprovalState.WAITING),
            _NotWaitingError(),
        )
        given = Statement(
            "UPDATE approvals SET state = ?, answer = ?, answered_seconds = ? WHERE key = ?",
            (ApprovalState.ANSWERED, dump(asdict(answer)), self.clock(), key),
        )
        try:
            await self._database.write(*first, waits, given, *then)
        except _NotWaitingError:
            return False
        return True

    async def approval(self, key: str) -> ApprovalRecord | None:
        """One question; None if there is none of that key."""
        rows = await self._read("asked.key = ?", (key,))
        return rows[0] if rows else None

    async def approvals(
        self,
        owner: str | None,
        state: ApprovalState | None = None,
        *,
        after_seconds: float | None = None,
        before_seconds: float | None = None,
        limit: int = 1000,
        operator: bool = False,
    ) -> list[ApprovalRecord]:
        """Questions of an owner's sessions (of everybody's for None).

        First those that wait, the oldest first; then the others, the newest first.

        Args:
            owner: of their sessions.
            state: that they have; all by default.
            after_seconds: of those that wait, only what was asked later.
            before_seconds: nothing that waits, and of the others only what was asked earlier.
            limit: how many at most.
            operator: those of all sessions, too, that an operator is to answer.
        """
        waiting = ApprovalState.WAITING
        after = float("-inf") if after_seconds is None else after_seconds
        before = float("inf") if before_seconds is None else before_seconds
        conditions = [
            "CASE asked.state WHEN ? THEN ? AND asked.created_seconds > ?"
            " ELSE asked.created_seconds < ? END"
        ]
        parameters: list[object] = [waiting, before_seconds is None, after, before]
        if owner is not None:
            others = " OR json_extract(asked.question, '$.by_operator')" if operator else ""
            conditions.append(f"(of.owner = ?{others})")
            parameters.append(owner)
        if state is not None:
            conditions.append("asked.state = ?")
            parameters.append(state)
        return await self._read(" AND ".join(conditions), parameters, limit)

    async def session_approvals(
        self, session_id: str, state: ApprovalState
    ) -> list[ApprovalRecord]:
        """Questions of one session in one state, in the order of `approvals`."""
        return await self._read("of.id = ? AND asked.state = ?", (session_id, state))

    async def unnotified(self) -> list[str]:
        """The keys of all questions that wait and that nobody was told of, the oldest first."""
        rows = await self._database.read(
            "SELECT key FROM approvals WHERE state = ? AND NOT notified ORDER BY created_seconds",
            (ApprovalState.WAITING,),
        )
        return [str(key) for (key,) in rows]

    async def waiting_questions(self) -> dict[str, int]:
        """How many questions of each session wait."""
        rows = await self._database.read(
            "SELECT session_id, COUNT(*) FROM approvals WHERE state = ? GROUP BY session_id",
            (ApprovalState.WAITING,),
        )
        return {str(session_id): int(questions) for session_id, questions in rows}

    async def _read(
        self, condition: str, parameters: Sequence[object], limit: int = 1000
    ) -> list[ApprovalRecord]:
        waiting = ApprovalState.WAITING
        rows = await self._database.read(
            f"{_SELECT} WHERE {condition} {_IN_ORDER}", (*parameters, waiting, waiting, limit)
        )
        return readable(_approval, rows)


def _approval(row: Row) -> ApprovalRecord:
    question, owner, state, answer, created, answered = row
    given = _ANSWER.validate_json(answer) if answer else None
    asked = _QUESTION.validate_json(question)
    return ApprovalRecord(asked, owner, ApprovalState(state), given, created, answered)
