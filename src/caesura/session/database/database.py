"""A database: one thread writes, so that writes that come together share a commit; others read."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from caesura.session.database.statements import Check, Row, Statement, Transaction
from caesura.session.errors import ReplicaLost, StatementRefused, StoreUnavailable

logger = logging.getLogger(__name__)

DEADLINE_SECONDS = 30.0
_READERS = 4


class Connection(Protocol):
    """A connection, used by one thread at a time."""

    def carry_out(self, transactions: Sequence[Transaction]) -> list[int | Exception]:
        """Carry out several transactions with one commit.

        Returns:
            For each, how many rows its last statement has changed; or why nothing of it was
            written.

        Raises:
            StoreUnavailable: nothing can be written now.
            Exception: one of them could not be carried out, and none was: each may be tried alone.
        """
        ...

    def rows(self, sql: str, parameters: Sequence[object], most_bytes: int | None) -> list[Row]:
        """The rows of a query; see `Database.read`."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Backend(Protocol):
    """A kind of database.

    Attributes:
        name: the database, for people; without passwords.
        busy_seconds: how long another process may keep a write waiting.
        refusals: errors of a database that is well, about a statement that is not.
        failures: errors of the database.
        of_nobody: a condition: the server that has written a row does not run any more.
    """

    name: str
    busy_seconds: float
    refusals: tuple[type[Exception], ...]
    failures: tuple[type[Exception], ...]
    of_nobody: str

    @property
    def identity(self) -> object:
        """For whom is written now; what was handed over for another is not written."""
        ...

    def writer(self) -> Connection:
        """The connection that writes; the tables are up to date."""
        ...

    def reader(self) -> Connection:
        """One of those that read."""
        ...

    def close(self) -> None:
        """Let go of it, once all connections are closed."""
        ...


@dataclass(slots=True)
class _Job:
    """What is written together; its outcome is how many rows the last statement has changed."""

    changes: Transaction
    identity: object
    outcome: "Future[int]" = field(default_factory=Future)


class Database:
    """A database of either kind.

    A write returns after its commit. Writes that wait while another is committed share the next
    one, so that many sessions cost few commits; each is atomic by itself. Reads have connections
    of their own and see every write that has returned.

    Whatever goes wrong on a thread is told to those who wait for it, as `StoreUnavailable` unless
    it is their own fault.

    Args:
        backend: the kind.
        deadline_seconds: a write that could not begin by then is withdrawn, a read given up.

    Attributes:
        name: the database, for people; without passwords.
        of_nobody: see `Backend`.

    Raises:
        ConfigurationError: it cannot be used; says why and what to do.
    """

    def __init__(self, backend: Backend, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self.name, self.of_nobody = backend.name, backend.of_nobody
        self._backend = backend
        self._deadline_seconds = deadline_seconds
        self._writer = backend.writer()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._accepting = threading.Lock()
        self._is_open = True
        self._busy_since: float | None = None
        self._own = threading.local()
        self._read_connections: list[Connection] = []
        self._readers = ThreadPoolExecutor(_READERS, "caesura-database-reader")
        self._thread = threading.Thread(target=self._work, name="caesura-database", daemon=True)
        self._thread.start()

    async def write(self, *changes: Statement | Check) -> int:
        """Carry out the statements in one transaction; the rows changed by the last of them.

        Cancelling the caller does not take back a write that was handed over.

        Raises:
            StoreUnavailable: nothing was written.
            Exception: the refusal of a check; or an error of the statements.
        """
        job = _Job(changes, self._backend.identity)
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
        if seconds > self._backend.busy_seconds + self._deadline_seconds:
            return f"the session store has been writing for {seconds:.0f} s"
        return None

    def close(self) -> None:
        """Carry out what was submitted and close the connections."""
        with self._accepting:
            if not self._is_open:
                return
            self._is_open = False
            self._jobs.put(None)
        self._thread.join()
        self._readers.shutdown()
        for connection in (*self._read_connections, self._writer):
            connection.close()
        self._backend.close()

    # On the threads

    def _rows(self, sql: str, parameters: Sequence[object], most_bytes: int | None) -> list[Row]:
        try:
            if not hasattr(self._own, "connection"):
                self._own.connection = self._backend.reader()
                self._read_connections.append(self._own.connection)
            connection: Connection = self._own.connection
            return connection.rows(sql, parameters, most_bytes)
        except BaseException as error:
            raise self._told(error) from error

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
        """Carry out all jobs with one commit; none is left without an outcome."""
        self._busy_since = time.monotonic()
        jobs = []
        for job in batch:
            if not job.outcome.set_running_or_notify_cancel():
                continue
            if job.identity == self._backend.identity:
                jobs.append(job)
            else:
                job.outcome.set_exception(ReplicaLost("it was to be written by another replica"))
        outcomes: Sequence[int | BaseException] = ()
        try:
            if jobs:
                outcomes = self._writer.carry_out([job.changes for job in jobs])
        except StoreUnavailable as error:
            outcomes = [error] * len(jobs)
        except BaseException as error:
            # What one job has met is not to fail the others.
            outcomes = [error] if len(jobs) == 1 else list(map(self._carried_out_alone, jobs))
        self._busy_since = None
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, int):
                job.outcome.set_result(outcome)
            else:
                job.outcome.set_exception(self._told(outcome))

    def _carried_out_alone(self, job: _Job) -> int | BaseException:
        try:
            return self._writer.carry_out([job.changes])[0]
        except BaseException as error:
            return error

    def _told(self, error: BaseException) -> Exception:
        """The error for the caller: his own fault unchanged, any other as one of the store."""
        if isinstance(error, self._backend.refusals):
            refused = StatementRefused(str(error))
            refused.__cause__ = error
            return refused
        failures = (*self._backend.failures, MemoryError, OSError)
        if isinstance(error, Exception) and not isinstance(error, failures):
            return error
        logger.error("the session store failed: %s: %s", type(error).__name__, error)
        unavailable = StoreUnavailable(
            f"the session store is not available: {error or type(error).__name__}"
        )
        unavailable.__cause__ = error
        return unavailable
