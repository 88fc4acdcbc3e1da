"""SQLite on a thread of its own: writes that arrive together share one commit."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caesura.errors import ConfigurationError

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        spec TEXT NOT NULL,
        phase TEXT NOT NULL,
        held INTEGER NOT NULL DEFAULT 0,
        turns INTEGER NOT NULL DEFAULT 0,
        ending TEXT,
        error TEXT,
        next_event INTEGER NOT NULL DEFAULT 1,
        created_seconds REAL NOT NULL,
        updated_seconds REAL NOT NULL
    ) STRICT;
    CREATE INDEX sessions_by_owner ON sessions (owner, created_seconds);
    CREATE INDEX sessions_by_phase ON sessions (phase, updated_seconds);
    CREATE TABLE transcript (
        session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        first INTEGER NOT NULL,
        token_ids BLOB NOT NULL,
        PRIMARY KEY (session_id, first)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE calls (
        id TEXT PRIMARY KEY,
        session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        turn INTEGER NOT NULL,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        arguments TEXT NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        result TEXT,
        created_seconds REAL NOT NULL
    ) STRICT;
    CREATE INDEX calls_by_session ON calls (session_id, turn, position);
    CREATE TABLE inbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        message TEXT NOT NULL,
        created_seconds REAL NOT NULL
    ) STRICT;
    CREATE INDEX inbox_by_session ON inbox (session_id, id);
    CREATE TABLE events (
        session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        type TEXT NOT NULL,
        data TEXT NOT NULL,
        created_seconds REAL NOT NULL,
        PRIMARY KEY (session_id, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE approvals (
        key TEXT PRIMARY KEY,
        session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        call_id TEXT NOT NULL,
        question TEXT NOT NULL,
        state TEXT NOT NULL,
        answer TEXT,
        notified INTEGER NOT NULL DEFAULT 0,
        created_seconds REAL NOT NULL,
        answered_seconds REAL
    ) STRICT;
    CREATE INDEX approvals_by_session ON approvals (session_id);
    CREATE INDEX approvals_by_state ON approvals (state, created_seconds);
    """,
    """
    ALTER TABLE sessions ADD COLUMN course TEXT;
    ALTER TABLE calls ADD COLUMN label TEXT
    """,
    # A protocol that was removed: no version can go on with these sessions.
    """
    UPDATE sessions SET spec = json_remove(spec, '$.protocol')
    WHERE json_extract(spec, '$.protocol') = 'prompted'
    """,
)
"""What takes the schema from each version to the next; only ever appended to."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement with its parameters."""

    sql: str
    parameters: Sequence[object] = ()


@dataclass(slots=True)
class _Job:
    """Work for the thread: statements to write together, or one to read."""

    statements: Sequence[Statement]
    reads: bool
    done: Callable[[list[Row] | BaseException], None]
    changed_rows: list[int] = field(default_factory=list)


class Database:
    """One SQLite file in WAL mode.

    A write returns after its commit. Writes that wait while another is committed share the next
    one, so that many sessions cost few commits; each is atomic by itself.

    Args:
        path: the file; it is created if it does not exist.

    Raises:
        ConfigurationError: the file cannot be used; says why and what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        started: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, args=(started,), name="caesura-database", daemon=True
        )
        self._thread.start()
        problem = started.get()
        if problem is not None:
            raise problem

    async def write(self, *statements: Statement) -> int:
        """Carry out the statements in one transaction; the rows changed by the last of them.

        Cancelling the caller does not take back a write that was handed over.
        """
        changed: list[int] = []
        await self._submit(_Job(statements, reads=False, done=_nobody, changed_rows=changed))
        return changed[-1] if changed else 0

    async def read(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows of a query; it sees every write that was submitted before it."""
        return await self._submit(_Job([Statement(sql, parameters)], reads=True, done=_nobody))

    def close(self) -> None:
        """Carry out what was submitted and close the file."""
        self._jobs.put(None)
        self._thread.join()

    async def _submit(self, job: _Job) -> list[Row]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Row]] = loop.create_future()

        def settle(outcome: list[Row] | BaseException) -> None:
            if future.cancelled():
                return
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        def done(outcome: list[Row] | BaseException) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, outcome)

        job.done = done
        self._jobs.put(job)
        return await future

    # On the thread

    def _work(self, started: "queue.SimpleQueue[Exception | None]") -> None:
        try:
            connection = _open(self.path)
        except (sqlite3.Error, OSError, ConfigurationError) as error:
            started.put(
                ConfigurationError(f"cannot use the database {self.path}: {error}")
                if not isinstance(error, ConfigurationError)
                else error
            )
            return
        started.put(None)
        try:
            while (job := self._jobs.get()) is not None:
                batch = [job]
                while not self._jobs.empty():
                    following = self._jobs.get()
                    if following is None:
                        self._jobs.put(None)
                        break
                    batch.append(following)
                _carry_out(connection, batch)
        finally:
            connection.close()


def _nobody(outcome: list[Row] | BaseException) -> None:
    """Replaced when the job is submitted."""


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA busy_timeout = 5000")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        connection.close()
        raise ConfigurationError(
            f"the database {path} was written by a newer version of Caesura (schema {version}, "
            f"this one knows {len(MIGRATIONS)}): upgrade, or choose another file"
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        # `executescript` commits by itself: the transaction is part of the script.
        connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")
    return connection


def _carry_out(connection: sqlite3.Connection, batch: list[_Job]) -> None:
    """All jobs in one transaction, each in a savepoint; told when it is committed."""
    outcomes: list[list[Row] | BaseException] = []
    try:
        connection.execute("BEGIN")
        for job in batch:
            outcomes.append(_carry_out_one(connection, job))
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        outcomes = [error] * len(batch)
    for job, outcome in zip(batch, outcomes, strict=True):
        job.done(outcome)


def _carry_out_one(connection: sqlite3.Connection, job: _Job) -> list[Row] | BaseException:
    try:
        if job.reads:
            (statement,) = job.statements
            return connection.execute(statement.sql, statement.parameters).fetchall()
        connection.execute("SAVEPOINT job")
        for statement in job.statements:
            cursor = connection.execute(statement.sql, statement.parameters)
            job.changed_rows.append(cursor.rowcount)
        connection.execute("RELEASE job")
    except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
        if not job.reads and connection.in_transaction:
            connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
        return error
    return []
