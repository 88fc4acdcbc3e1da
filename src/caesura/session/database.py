"""SQLite: one thread writes, so that writes that arrive together share a commit; others read."""

import asyncio
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caesura.errors import ConfigurationError
from caesura.session import database_file
from caesura.session.errors import StoreUnavailable

logger = logging.getLogger(__name__)

BUSY_SECONDS = 5.0
DEADLINE_SECONDS = 30.0
_READERS = 4

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement with its parameters."""

    sql: str
    parameters: Sequence[object] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """A condition of a transaction: nothing of it is written unless the condition holds.

    Attributes:
        sql: a query of one value, which is true if the condition holds.
        parameters: of the query.
        refusal: raised if it does not.
    """

    sql: str
    parameters: Sequence[object]
    refusal: Exception


@dataclass(slots=True)
class _Job:
    """What is written together; its outcome is how many rows the last statement has changed."""

    changes: Sequence[Statement | Check]
    outcome: "Future[int]" = field(default_factory=Future)


class Database:
    """One SQLite file in WAL mode.

    A write returns after its commit. Writes that wait while another is committed share the next
    one, so that many sessions cost few commits; each is atomic by itself. Reads have connections
    of their own and see every write that has returned.

    Whatever goes wrong on a thread is told to those who wait for it, as `StoreUnavailable` unless
    it is their own fault.

    Args:
        path: the file; it is created if it does not exist.
        migrate: brings the tables up to date.
        busy_seconds: how long another process may keep the file locked.
        deadline_seconds: a write that could not begin by then is withdrawn, a read given up.

    Raises:
        ConfigurationError: the file cannot be used; says why and what to do.
    """

    def __init__(
        self,
        path: Path,
        migrate: Callable[[sqlite3.Connection, Path], None],
        *,
        busy_seconds: float = BUSY_SECONDS,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self.path = path.resolve()
        self._busy_seconds = busy_seconds
        self._deadline_seconds = deadline_seconds
        self._descriptor = database_file.claim(self.path)
        try:
            self._connection = self._opened(migrate)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._accepting = threading.Lock()
        self._is_open = True
        self._busy_since: float | None = None
        self._own = threading.local()
        self._read_connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(_READERS, "caesura-database-reader")
        self._thread = threading.Thread(target=self._work, name="caesura-database", daemon=True)
        self._thread.start()

    def _opened(self, migrate: Callable[[sqlite3.Connection, Path], None]) -> sqlite3.Connection:
        try:
            connection = self._connected()
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                if mode != "wal":
                    raise ConfigurationError(
                        f"cannot use the database {self.path}: its file system has no shared "
                        "memory (WAL); choose a local disk with sessions.database"
                    )
                migrate(connection, self.path)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise ConfigurationError(f"cannot use the database {self.path}: {error}") from error
        return connection

    def _connected(self) -> sqlite3.Connection:
        # Each connection is used by one thread at a time; it is closed by another.
        connection = sqlite3.connect(
            self.path, self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    async def write(self, *changes: Statement | Check) -> int:
        """Carry out the statements in one transaction; the rows changed by the last of them.

        Cancelling the caller does not take back a write that was handed over.

        Raises:
            StoreUnavailable: nothing was written.
            Exception: the refusal of a check; or an error of the statements.
        """
        job = _Job(changes)
        with self._accepting:
            if not self._is_open:
                raise StoreUnavailable("the session store is closed")
            if not self._thread.is_alive():
                raise StoreUnavailable("the session store's thread is gone")
            self._jobs.put(job)
        written = asyncio.wrap_future(job.outcome)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._deadline_seconds):
                return await asyncio.shield(written)
        if job.outcome.cancel():  # it has not begun
            raise StoreUnavailable("the session store does not get on with its writes")
        return await asyncio.shield(written)

    async def read(
        self, sql: str, parameters: Sequence[object] = (), *, most_bytes: int | None = None
    ) -> list[Row]:
        """The rows of a query.

        Args:
            sql: the query.
            parameters: of the query.
            most_bytes: no more rows are read once their texts are as long as this.

        Raises:
            StoreUnavailable: they cannot be read.
        """
        if not self._is_open:
            raise StoreUnavailable("the session store is closed")
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(self._readers, self._rows, sql, parameters, most_bytes)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await reading
        except TimeoutError:
            raise StoreUnavailable("the session store does not answer") from None

    async def require(self, *checks: Check) -> None:
        """Raise the refusal of the first condition that does not hold now."""
        for check in checks:
            ((holds,),) = await self.read(check.sql, check.parameters)
            if not holds:
                raise check.refusal

    def problem(self) -> str | None:
        """What only a restart can repair; None if there is no such thing."""
        if self._is_open and not self._thread.is_alive():
            return "the session store's thread is gone"
        since = self._busy_since
        seconds = 0.0 if since is None else time.monotonic() - since
        if seconds > self._busy_seconds + self._deadline_seconds:
            return f"the session store has been writing for {seconds:.0f} s"
        return None

    def close(self) -> None:
        """Carry out what was submitted and close the file."""
        with self._accepting:
            if not self._is_open:
                return
            self._is_open = False
            self._jobs.put(None)
        self._thread.join()
        self._readers.shutdown()
        for connection in self._read_connections:
            connection.close()
        self._connection.close()
        os.close(self._descriptor)

    # On the threads

    def _rows(self, sql: str, parameters: Sequence[object], most_bytes: int | None) -> list[Row]:
        try:
            if not hasattr(self._own, "connection"):
                self._own.connection = self._connected()
                self._own.connection.execute("PRAGMA query_only = ON")
                self._read_connections.append(self._own.connection)
            cursor = self._own.connection.execute(sql, parameters)
            if most_bytes is None:
                rows: list[Row] = cursor.fetchall()
                return rows
            rows, size_bytes = [], 0
            for row in cursor:
                rows.append(row)
                size_bytes += sum(len(value) for value in row if isinstance(value, str))
                if size_bytes >= most_bytes:
                    break
            cursor.close()
            return rows
        except BaseException as error:
            raise _told(error) from error

    def _work(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                batch = [job]
                with suppress(queue.Empty):
                    while (following := self._jobs.get_nowait()) is not None:
                        batch.append(following)
                    self._jobs.put(None)
                self._carry_out(batch)
        finally:
            with suppress(queue.Empty):
                while True:
                    if (left := self._jobs.get_nowait()) is not None:
                        left.outcome.set_exception(StoreUnavailable("the session store is gone"))

    def _carry_out(self, batch: list[_Job]) -> None:
        """Carry out all jobs in one transaction, each in a savepoint; none is left without an
        outcome."""
        self._busy_since = time.monotonic()
        jobs = [job for job in batch if job.outcome.set_running_or_notify_cancel()]
        try:
            outcomes = self._committed(jobs)
        except BaseException as error:
            # What one job has met is not to fail the others.
            outcomes = [error] if len(jobs) == 1 else list(map(self._committed_alone, jobs))
        self._busy_since = None
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, int):
                job.outcome.set_result(outcome)
            else:
                job.outcome.set_exception(_told(outcome))

    def _committed_alone(self, job: _Job) -> int | BaseException:
        try:
            return self._committed([job])[0]
        except BaseException as error:
            return error

    def _committed(self, jobs: list[_Job]) -> list[int | BaseException]:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [_carry_out_one(connection, job) for job in jobs]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return outcomes


def _carry_out_one(connection: sqlite3.Connection, job: _Job) -> int | BaseException:
    changed = 0
    try:
        connection.execute("SAVEPOINT job")
        for change in job.changes:
            cursor = connection.execute(change.sql, change.parameters)
            if isinstance(change, Check) and not cursor.fetchone()[0]:
                raise change.refusal
            changed = cursor.rowcount
        connection.execute("RELEASE job")
    except Exception as error:
        if not connection.in_transaction:  # SQLite has given up the whole transaction
            raise
        connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return error
    return changed


def _told(error: BaseException) -> Exception:
    """The error for the caller: his own fault unchanged, any other as one of the store."""
    own_fault = isinstance(error, Exception) and not isinstance(
        error, sqlite3.Error | MemoryError | OSError
    )
    if own_fault or isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
        assert isinstance(error, Exception)
        return error
    logger.error("the session store failed: %s: %s", type(error).__name__, error)
    unavailable = StoreUnavailable(f"the session store is not available: {error}")
    unavailable.__cause__ = error
    return unavailable
