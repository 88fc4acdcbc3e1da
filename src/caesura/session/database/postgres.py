"""PostgreSQL: one database, used by several servers.

A server that runs sessions has a row in `replicas` with a lease (`session.replicas`). Every
transaction that writes locks that row, and writes nothing if the lease is over: whoever takes the
sessions of a replica waits for that lock, so nothing that it had begun is written after that.
"""

import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from caesura.errors import ConfigurationError
from caesura.session.database.statements import Check, Row, Statement, Transaction
from caesura.session.errors import ReplicaLost, StoreUnavailable

logger = logging.getLogger(__name__)
logging.getLogger("psycopg").setLevel(logging.ERROR)  # what failed is told by its error

OLDEST_SERVER = 130000
BUSY_SECONDS = 5.0
_DEFAULTS = {
    "application_name": "caesura",
    "client_encoding": "utf8",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_TRIES = 3
_OUTCOME_SECONDS = 10.0
_AGAIN_SECONDS = 0.2
_FENCE = (
    "SELECT pg_current_xact_id()::text, set_config('caesura.replica', $1, true),"
    " set_config('caesura.fingerprint', $2, true) FROM replicas"
    " WHERE id = $1 AND lease_until > clock_timestamp() FOR KEY SHARE"
)
_NO_FENCE = "SELECT pg_current_xact_id()::text"


@dataclass(frozen=True, slots=True)
class Identity:
    """For whom is written.

    Attributes:
        replica: the id of a replica.
        fingerprint: of what it serves; sessions that it makes have it, too.
    """

    replica: str
    fingerprint: str


class PostgresBackend:
    """A database of PostgreSQL.

    Args:
        url: where it is, as libpq reads it.
        migrate: brings the tables up to date.

    Attributes:
        identity: for whom is written; None for a process that runs no sessions.

    Raises:
        ConfigurationError: it is no such address.
    """

    refusals: tuple[type[Exception], ...] = (
        psycopg.IntegrityError,
        psycopg.ProgrammingError,
        psycopg.DataError,
    )
    failures: tuple[type[Exception], ...] = (psycopg.Error,)
    busy_seconds = BUSY_SECONDS
    of_nobody = "(replica IS NULL OR replica NOT IN (SELECT id FROM replicas))"

    def __init__(self, url: str, migrate: Callable[["psycopg.Connection[Any]", str], None]) -> None:
        self._parameters = parameters_of(url)
        self.name = shown_address(url)
        self.identity: Identity | None = None
        self._migrate = migrate

    def writer(self) -> "PostgresConnection":
        """See `Backend`."""
        try:
            with self.connected() as connection:
                self._require_fit(connection)
                self._migrate(connection, self.name)
        except psycopg.Error as error:
            raise ConfigurationError(
                f"cannot use the database {self.name}: {_sentence(error)}; see sessions.database"
            ) from error
        return PostgresConnection(self, reads_only=False)

    def reader(self) -> "PostgresConnection":
        """See `Backend`."""
        return PostgresConnection(self, reads_only=True)

    def close(self) -> None:
        """See `Backend`."""

    def connected(self) -> "psycopg.Connection[Any]":
        """A new connection, which commits each statement by itself.

        Raises:
            psycopg.Error: the database does not answer.
        """
        connection = psycopg.connect(
            **self._parameters, autocommit=True, cursor_factory=psycopg.RawCursor
        )
        connection.prepare_threshold = 2
        connection.execute("SET jit = off")
        return connection

    def wall_seconds(self) -> float:
        """The database's clock."""
        with self.connected() as connection:
            row = connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
        assert row is not None
        return float(row[0])

    def _require_fit(self, connection: "psycopg.Connection[Any]") -> None:
        if connection.info.server_version < OLDEST_SERVER:
            raise ConfigurationError(
                f"the database {self.name} is of PostgreSQL "
                f"{connection.info.server_version // 10000}: sessions need 13 or later"
            )
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise ConfigurationError(
                f"the database {self.name} stores texts as {encoding}: make one with "
                "ENCODING 'UTF8' TEMPLATE template0"
            )


class PostgresConnection:
    """See `Connection`. One that was lost is made again when it is used.

    Args:
        backend: makes connections.
        reads_only: it does not write.
    """

    def __init__(self, backend: PostgresBackend, *, reads_only: bool) -> None:
        self._backend = backend
        self._reads_only = reads_only
        self._current: psycopg.Connection[Any] | None = None

    def carry_out(self, transactions: Sequence[Transaction]) -> list[int | Exception]:
        """All in one transaction of PostgreSQL's, sent at once and read at once."""
        send = self._sent
        for attempt in count(1):
            connection = self._connected()
            try:
                number, outcomes = send(connection, transactions)
            except BaseException as error:
                if connection.closed:  # nothing was committed, so that it may be tried again
                    if attempt == 1:
                        continue
                    raise self._unavailable(error) from error
                with suppress(psycopg.Error):
                    connection.rollback()  # and forget what it has prepared
                if isinstance(error, errors.DeadlockDetected | errors.SerializationFailure):
                    if attempt < _TRIES:
                        continue
                elif len(transactions) == 1 and send == self._sent:
                    send = self._sent_one_by_one  # to know what was the first to fail
                    continue
                raise
            else:
                self._commit(connection, number)
                return outcomes
        raise AssertionError

    def _sent(
        self, connection: "psycopg.Connection[Any]", transactions: Sequence[Transaction]
    ) -> tuple[str, list[int | Exception]]:
        """Number of the transaction, which is complete but for its commit, and its outcomes."""
        with connection.pipeline():
            begun = self._begun(connection)
            sent = [
                [(change, _execute(connection, change.sql, change.parameters)) for change in each]
                for each in transactions
            ]
        number = _number(begun)
        for change, cursor in (pair for each in sent for pair in each):
            _require(change, cursor)
        return number, [each[-1][1].rowcount if each else 0 for each in sent]

    def _sent_one_by_one(
        self, connection: "psycopg.Connection[Any]", transactions: Sequence[Transaction]
    ) -> tuple[str, list[int | Exception]]:
        """The same, each statement once the one before it has succeeded."""
        number, outcomes = _number(self._begun(connection)), list[int | Exception]()
        for changes in transactions:
            changed = 0
            for change in changes:
                cursor = _execute(connection, change.sql, change.parameters)
                _require(change, cursor)
                changed = cursor.rowcount
            outcomes.append(changed)
        return number, outcomes

    def _begun(self, connection: "psycopg.Connection[Any]") -> "psycopg.Cursor[Any]":
        connection.execute("BEGIN")
        identity = self._backend.identity
        if identity is None:
            return connection.execute(_NO_FENCE)
        return connection.execute(_FENCE, (identity.replica, identity.fingerprint))

    def _commit(self, connection: "psycopg.Connection[Any]", number: str) -> None:
        """Commit, and be sure of it.

        Raises:
            StoreUnavailable: it is not committed, or that cannot be found out in time.
        """
        try:
            connection.execute("COMMIT")
        except psycopg.Error as error:
            if not connection.closed:
                with suppress(psycopg.Error):
                    connection.rollback()  # and forget what it has prepared
                raise
            if not self._was_committed(number):
                raise self._unavailable(error) from error

    def _was_committed(self, number: str) -> bool:
        """Whether a transaction was committed whose connection was lost meanwhile."""
        deadline = time.monotonic() + _OUTCOME_SECONDS
        while time.monotonic() < deadline:
            with suppress(StoreUnavailable, psycopg.Error):
                asked = self._connected().execute(
                    "SELECT pg_xact_status($1::text::xid8)", (number,)
                )
                if (status := _value(asked)) in ("committed", "aborted"):
                    return bool(status == "committed")
            time.sleep(_AGAIN_SECONDS)
        return False

    def rows(self, sql: str, parameters: Sequence[object], most_bytes: int | None) -> list[Row]:
        """See `Database.read`."""
        try:
            return self._rows(sql, parameters, most_bytes)
        except psycopg.OperationalError as error:
            if self._current is not None and not self._current.closed:
                raise
            logger.info("the connection to %s was lost: %s", self._backend.name, _sentence(error))
        try:
            return self._rows(sql, parameters, most_bytes)
        except psycopg.OperationalError as error:
            raise self._unavailable(error) from error

    def _rows(self, sql: str, parameters: Sequence[object], most_bytes: int | None) -> list[Row]:
        connection = self._connected()
        if most_bytes is None:
            return [_read(row) for row in _execute(connection, sql, parameters)]
        rows: list[Row] = []
        size_bytes = 0
        for row in connection.cursor().stream(_numbered(sql), _bound(parameters)):
            rows.append(_read(row))
            size_bytes += sum(len(value) for value in row if isinstance(value, str))
            if size_bytes >= most_bytes:
                break
        return rows

    def close(self) -> None:
        """See `Connection`."""
        if self._current is not None:
            self._current.close()

    def _connected(self) -> "psycopg.Connection[Any]":
        if self._current is not None and not self._current.closed:
            return self._current
        try:
            connection = self._backend.connected()
            if self._reads_only:
                connection.execute("SET default_transaction_read_only = on")
            else:
                # A process that was stopped in the middle keeps no replica from taking over.
                connection.execute("SET idle_in_transaction_session_timeout = '5s'")
        except psycopg.Error as error:
            raise self._unavailable(error) from error
        self._current = connection
        return connection

    def _unavailable(self, error: BaseException) -> StoreUnavailable:
        logger.error("the database %s failed: %s", self._backend.name, _sentence(error))
        return StoreUnavailable(f"the session store does not answer: {_sentence(error)}")


def parameters_of(url: str) -> dict[str, Any]:
    """The parameters of a connection.

    Raises:
        ConfigurationError: it is no such address.
    """
    try:
        return {**_DEFAULTS, **conninfo_to_dict(url)}
    except psycopg.Error:
        # libpq repeats what it was given, passwords among it.
        raise ConfigurationError(
            "sessions.database is no address that PostgreSQL's clients know: "
            "postgresql://USER:PASSWORD@HOST:PORT/NAME"
        ) from None


def shown_address(url: str) -> str:
    """The address of a database without its password."""
    given = parameters_of(url)
    host = str(given.get("host") or given.get("hostaddr") or "")
    port = f":{given['port']}" if given.get("port") else ""
    return f"postgresql://{host}{port}/{given.get('dbname') or ''}"


def _number(begun: "psycopg.Cursor[Any]") -> str:
    """The number of a transaction that has begun."""
    if (number := _value(begun)) is None:
        raise ReplicaLost("the replica's lease is over: others have its sessions")
    return str(number)


def _require(change: Statement | Check, cursor: "psycopg.Cursor[Any]") -> None:
    if isinstance(change, Check) and not _value(cursor):
        raise change.refusal


def _value(cursor: "psycopg.Cursor[Any]") -> Any:
    row = cursor.fetchone()
    return None if row is None else row[0]


def _execute(
    connection: "psycopg.Connection[Any]", sql: str, parameters: Sequence[object]
) -> "psycopg.Cursor[Any]":
    return connection.execute(_numbered(sql), _bound(parameters))


@lru_cache(maxsize=1024)
def _numbered(sql: str) -> Any:
    """A statement with PostgreSQL's own parameters."""
    numbers = count(1)
    return re.sub(r"\?(\d*)", lambda mark: f"${mark[1] or next(numbers)}", sql).encode()


# PostgreSQL's texts have every character but the one of code zero, which messages of users and
# arguments of calls may have. This one stands for nothing in any text, and is escaped all the same.
_ESCAPE = "\ufdd0"


def _bound(parameters: Sequence[object]) -> list[object]:
    return [
        value.replace(_ESCAPE, f"{_ESCAPE}1").replace("\0", f"{_ESCAPE}0")
        if isinstance(value, str) and ("\0" in value or _ESCAPE in value)
        else value
        for value in parameters
    ]


def _read(row: Row) -> Row:
    if not any(isinstance(value, str) and _ESCAPE in value for value in row):
        return row
    return tuple(
        value.replace(f"{_ESCAPE}0", "\0").replace(f"{_ESCAPE}1", _ESCAPE)
        if isinstance(value, str)
        else value
        for value in row
    )


def _sentence(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
