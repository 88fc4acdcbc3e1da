"""Which kind of database is meant, and what it needs."""

import time
from collections.abc import Callable
from pathlib import Path

from caesura.errors import ConfigurationError
from caesura.session.database import Backend
from caesura.session.database.sqlite import SqliteBackend
from caesura.session.store import sqlite_schema

SCHEMES = ("postgresql://", "postgres://")
"""How the address of a database of PostgreSQL begins."""


def is_shared(where: Path | str) -> bool:
    """Whether it is a database that several servers can use at the same time."""
    return isinstance(where, str) and where.startswith(SCHEMES)


def opened(where: Path | str) -> tuple[Backend, Callable[[], float]]:
    """The database, and its wall clock.

    Args:
        where: a file of SQLite, or the address of a database of PostgreSQL.

    Raises:
        ConfigurationError: it cannot be used, or a package is missing.
    """
    if not is_shared(where):
        return SqliteBackend(Path(where), sqlite_schema.migrate), time.time
    try:
        from caesura.session.database.postgres import PostgresBackend
        from caesura.session.store import postgres_schema
    except ImportError as error:
        raise ConfigurationError(
            "PostgreSQL as the database of sessions needs another package: "
            "pip install 'caesura[postgres]'"
        ) from error
    backend = PostgresBackend(str(where), postgres_schema.migrate)
    return backend, backend.wall_seconds
