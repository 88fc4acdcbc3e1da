"""The tables of the store, from each version of them to the next."""

import sqlite3
from pathlib import Path

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
    """
    CREATE INDEX sessions_open ON sessions (owner) WHERE phase != 'ended';
    CREATE INDEX events_by_type ON events (session_id, type, number)
    """,
)
"""What takes the schema from each version to the next; only ever appended to."""


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the tables up to date.

    Raises:
        ConfigurationError: a newer version has written them.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise ConfigurationError(
            f"the database {path} was written by a newer version of Caesura (schema {version}, "
            f"this one knows {len(MIGRATIONS)}): upgrade, or choose another file"
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        # `executescript` commits by itself: the transaction is part of the script.
        connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")
