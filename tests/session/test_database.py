"""The database: what fails on its threads is told to those who wait, and nothing stops it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from caesura.errors import ConfigurationError
from caesura.session.database import Check, Database, Statement
from caesura.session.database.sqlite import SqliteBackend
from caesura.session.errors import StatementRefused, StoreUnavailable
from caesura.session.store.sqlite_schema import MIGRATIONS, migrate
from session.workplace import eventually
from support.databases.places import place_of

ON_EACH_DATABASE = False  # those that name `each_database`


def with_table(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY) STRICT")


@asynccontextmanager
async def opened(
    path: Path, *, busy_seconds: float = 5.0, deadline_seconds: float = 30.0
) -> AsyncIterator[Database]:
    place = place_of(path)
    if isinstance(place, Path):
        backend = SqliteBackend(place, with_table, busy_seconds)
    else:
        from caesura.session.database.postgres import PostgresBackend

        sql = "CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY)"
        backend = PostgresBackend(place, lambda connection, _: connection.execute(sql))
    database = Database(backend, deadline_seconds=deadline_seconds)
    try:
        yield database
    finally:
        database.close()


def insert(value: object) -> Statement:
    return Statement("INSERT INTO t VALUES (?)", (value,))


async def rows(database: Database) -> list[int]:
    return [row[0] for row in await database.read("SELECT x FROM t ORDER BY x")]


class Bomb:
    """A parameter that fails on the thread that uses it."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __conform__(self, protocol: object) -> object:
        raise self._error


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    database = Database(SqliteBackend(tmp_path / "db", migrate))
    await database.write(Statement(f"PRAGMA user_version = {len(MIGRATIONS) + 1}"))
    database.close()
    with pytest.raises(ConfigurationError, match="newer version"):
        Database(SqliteBackend(tmp_path / "db", migrate))


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(ConfigurationError, match="cannot use the database"):
        Database(SqliteBackend(tmp_path / "db", migrate))


async def test_a_write_that_fails_does_not_take_others_with_it(
    each_database: str, tmp_path: Path
) -> None:
    async with opened(tmp_path / "db") as database:
        outcomes = await asyncio.gather(
            *[database.write(insert(i), insert(100 if i % 3 else i)) for i in range(9)],
            return_exceptions=True,
        )
        refused = [outcome for outcome in outcomes if outcome != 1]
        assert all(isinstance(outcome, StatementRefused) for outcome in refused)
        assert await rows(database) == [1, 100]


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError("i/o"), SystemExit(), KeyboardInterrupt()]
)
async def test_no_error_stops_the_threads(tmp_path: Path, error: BaseException) -> None:
    async with opened(tmp_path / "db") as database:
        outcomes = await asyncio.gather(
            database.write(insert(1)),
            database.write(insert(2), insert(Bomb(error))),
            database.write(insert(3)),
            database.read("SELECT ?", (Bomb(error),)),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [
            int,
            StoreUnavailable,
            int,
            StoreUnavailable,
        ]
        await database.write(insert(4))
        assert await rows(database) == [1, 3, 4]
        assert database.problem() is None


async def test_a_full_disk_is_told_and_passes(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as database:
        ((pages,),) = await database.read("PRAGMA page_count")
        await database.write(Statement("CREATE TABLE texts (x TEXT)"))
        long, short = (Statement("INSERT INTO texts VALUES (?)", ("x" * n,)) for n in (10**6, 1))
        await database.write(Statement(f"PRAGMA max_page_count = {pages + 8}"))
        outcomes = await asyncio.gather(
            database.write(short), database.write(long), database.write(short),
            return_exceptions=True,
        )  # fmt: skip
        assert [type(outcome) for outcome in outcomes] == [int, StoreUnavailable, int]
        assert "full" in str(outcomes[1])
        await database.write(Statement("PRAGMA max_page_count = 100000"))
        await database.write(long)
        assert await database.read("SELECT COUNT(*) FROM texts") == [(3,)]


async def test_a_locked_file_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path / "db", busy_seconds=0.01) as database:
        other = sqlite3.connect(tmp_path / "db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await database.write(insert(1))
        assert await rows(database) == [], "reads go on"
        other.execute("COMMIT")
        other.close()
        await database.write(insert(1))


async def test_a_write_that_cannot_begin_in_time_is_withdrawn(tmp_path: Path) -> None:
    async with opened(tmp_path / "db", busy_seconds=60, deadline_seconds=0.05) as database:
        other = sqlite3.connect(tmp_path / "db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        begun = asyncio.create_task(database.write(insert(1)))
        await eventually(lambda: database._busy_since is not None)
        with pytest.raises(StoreUnavailable, match="does not get on"):
            await database.write(insert(2))
        assert not begun.done(), "its outcome is not known yet"
        other.execute("COMMIT")
        other.close()
        assert await begun == 1
        await database.write(insert(3))
        assert await rows(database) == [1, 3]


async def test_what_is_given_up_is_written_all_the_same(each_database: str, tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as database:
        writing = asyncio.create_task(database.write(insert(1)))
        await asyncio.sleep(0)
        writing.cancel()
        await database.write(insert(2))
        assert await rows(database) == [1, 2]


async def test_a_check_that_fails_takes_its_transaction_back(
    each_database: str, tmp_path: Path
) -> None:
    few = Check("SELECT COUNT(*) < ? FROM t", (3,), ValueError("three are there"))
    async with opened(tmp_path / "db") as database:
        await database.require(few)
        outcomes = await asyncio.gather(
            *[database.write(insert(i), insert(10 + i), few) for i in range(5)],
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, ValueError) for outcome in outcomes) == 4
        assert len(await rows(database)) == 2
        await database.write(insert(99))
        with pytest.raises(ValueError, match="three are there"):
            await database.require(few)


async def test_a_closed_database_refuses_at_once(each_database: str, tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as database:
        pass
    for attempt in (database.write(insert(1)), database.read("SELECT 1")):
        with pytest.raises(StoreUnavailable, match="closed"):
            await attempt


async def test_a_thread_that_is_gone_is_told(each_database: str, tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as database:
        database._jobs.put(None)
        database._thread.join()
        assert database.problem() == "the session store's thread is gone"
        with pytest.raises(StoreUnavailable, match="thread is gone"):
            await database.write(insert(1))


async def test_reading_stops_at_a_number_of_bytes(each_database: str, tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as database:
        sql, long = "SELECT ? FROM (VALUES (1), (2), (3), (4)) AS four", ("x" * 1000,)
        assert len(await database.read(sql, long)) == 4
        assert len(await database.read(sql, long, most_bytes=1500)) == 2
        assert await database.read(sql, ("y",)) == [("y",)] * 4, "the rest is not in the way"
