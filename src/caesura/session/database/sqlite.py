"""SQLite: one file, used by one server."""

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from caesura.errors import ConfigurationError
from caesura.session.database import sqlite_file
from caesura.session.database.statements import Check, Row, Transaction

BUSY_SECONDS = 5.0


class SqliteBackend:
    """One SQLite file in WAL mode.

    Args:
        path: the file; it is created if it does not exist.
        migrate: brings the tables up to date.
        busy_seconds: how long another process may keep the file locked.

    Raises:
        ConfigurationError: the file cannot be used; says why and what to do.
    """

    refusals: tuple[type[Exception], ...] = (sqlite3.IntegrityError, sqlite3.ProgrammingError)
    failures: tuple[type[Exception], ...] = (sqlite3.Error,)
    identity = None
    of_nobody = "TRUE"

    def __init__(
        self,
        path: Path,
        migrate: Callable[[sqlite3.Connection, Path], None],
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self.path = path.resolve()
        self.name = str(self.path)
        self.busy_seconds = busy_seconds
        self._migrate = migrate
        self._descriptor = sqlite_file.claim(self.path)

    def writer(self) -> "SqliteConnection":
        """See `Backend`."""
        try:
            connection = self._connected()
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                if mode != "wal":
                    raise ConfigurationError(
                        f"cannot use the database {self.path}: its file system has no shared "
                        "memory (WAL); choose a local disk with sessions.database"
                    )
                self._migrate(connection, self.path)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            self.close()
            raise ConfigurationError(f"cannot use the database {self.path}: {error}") from error
        except BaseException:
            self.close()
            raise
        return SqliteConnection(connection)

    def reader(self) -> "SqliteConnection":
        """See `Backend`."""
        connection = self._connected()
        connection.execute("PRAGMA query_only = ON")
        return SqliteConnection(connection)

    def close(self) -> None:
        """See `Backend`."""
        os.close(self._descriptor)

    def _connected(self) -> sqlite3.Connection:
        # Each connection is used by one thread at a time; it is closed by another.
        connection = sqlite3.connect(
            self.path, self.busy_seconds, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection


class SqliteConnection:
    """See `Connection`.

    Args:
        connection: of SQLite.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.close = connection.close

    def carry_out(self, transactions: Sequence[Transaction]) -> list[int | Exception]:
        """All in one transaction of SQLite's, each in a savepoint."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._carry_out_one(changes) for changes in transactions]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return outcomes

    def _carry_out_one(self, changes: Transaction) -> int | Exception:
        connection, changed = self._connection, 0
        try:
            connection.execute("SAVEPOINT job")
            for change in changes:
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

    def rows(self, sql: str, parameters: Sequence[object], most_bytes: int | None) -> list[Row]:
        """See `Database.read`."""
        cursor = self._connection.execute(sql, parameters)
        if most_bytes is None:
            return cursor.fetchall()
        rows: list[Row] = []
        size_bytes = 0
        for row in cursor:
            rows.append(row)
            size_bytes += sum(len(value) for value in row if isinstance(value, str))
            if size_bytes >= most_bytes:
                break
        cursor.close()
        return rows
