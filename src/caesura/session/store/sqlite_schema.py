"""The tables of the store in SQLite, from each version of them to the next.

What an owner's sessions take is counted by triggers, so that no statement can forget it: the bytes
of texts and tokens, and a constant for each row.
"""

import secrets
import sqlite3
from pathlib import Path

from caesura.errors import ConfigurationError
from caesura.session.store.owner_names import keyed_owner

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
    # Sessions of a protocol that was removed: nothing can go on with them.
    """
    UPDATE sessions SET spec = json_remove(spec, '$.protocol')
    WHERE CASE WHEN json_valid(spec) THEN json_extract(spec, '$.protocol') END = 'prompted'
    """,
    """
    CREATE INDEX sessions_ended ON sessions (owner, updated_seconds) WHERE phase = 'ended';
    CREATE TABLE owners (owner TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE usage (
        session_id TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
        owner TEXT NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER usage_begins AFTER INSERT ON usage BEGIN
        INSERT INTO owners VALUES (new.owner, new.bytes)
            ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER usage_changes AFTER UPDATE OF bytes ON usage BEGIN
        UPDATE owners SET bytes = bytes + new.bytes - old.bytes WHERE owner = new.owner;
    END;
    CREATE TRIGGER usage_ends AFTER DELETE ON usage BEGIN
        UPDATE owners SET bytes = bytes - old.bytes WHERE owner = old.owner;
    END;
    INSERT INTO usage SELECT id, owner,
        500 + length(CAST(spec AS BLOB))
        + (SELECT TOTAL(100 + length(CAST(data AS BLOB))) FROM events WHERE session_id = id)
        + (SELECT TOTAL(60 + length(token_ids)) FROM transcript WHERE session_id = id)
        + (SELECT TOTAL(150 + length(CAST(arguments || COALESCE(result, '') AS BLOB)))
            FROM calls WHERE session_id = sessions.id)
        + (SELECT TOTAL(60 + length(CAST(message AS BLOB))) FROM inbox
            WHERE session_id = sessions.id)
        + (SELECT TOTAL(200 + length(CAST(question || COALESCE(answer, '') AS BLOB)))
            FROM approvals WHERE session_id = id)
        FROM sessions;
    CREATE TRIGGER session_counts AFTER INSERT ON sessions BEGIN
        INSERT INTO usage VALUES (new.id, new.owner, 500 + length(CAST(new.spec AS BLOB)));
    END;
    CREATE TRIGGER event_counts AFTER INSERT ON events BEGIN
        UPDATE usage SET bytes = bytes + 100 + length(CAST(new.data AS BLOB))
            WHERE session_id = new.session_id;
    END;
    CREATE TRIGGER tokens_count AFTER INSERT ON transcript BEGIN
        UPDATE usage SET bytes = bytes + 60 + length(new.token_ids)
            WHERE session_id = new.session_id;
    END;
    CREATE TRIGGER call_counts AFTER INSERT ON calls BEGIN
        UPDATE usage SET bytes = bytes + 150 + length(CAST(new.arguments AS BLOB))
            WHERE session_id = new.session_id;
    END;
    CREATE TRIGGER result_counts AFTER UPDATE OF result ON calls BEGIN
        UPDATE usage SET bytes = bytes + length(CAST(COALESCE(new.result, '') AS BLOB))
            - length(CAST(COALESCE(old.result, '') AS BLOB)) WHERE session_id = new.session_id;
    END;
    CREATE TRIGGER message_counts AFTER INSERT ON inbox BEGIN
        UPDATE usage SET bytes = bytes + 60 + length(CAST(new.message AS BLOB))
            WHERE session_id = new.session_id;
    END;
    CREATE TRIGGER message_is_gone AFTER DELETE ON inbox BEGIN
        UPDATE usage SET bytes = bytes - 60 - length(CAST(old.message AS BLOB))
            WHERE session_id = old.session_id;
    END;
    CREATE TRIGGER approval_counts AFTER INSERT ON approvals BEGIN
        UPDATE usage SET bytes = bytes + 200 + length(CAST(new.question AS BLOB))
            WHERE session_id = new.session_id;
    END;
    CREATE TRIGGER answer_counts AFTER UPDATE OF answer ON approvals BEGIN
        UPDATE usage SET bytes = bytes + length(CAST(COALESCE(new.answer, '') AS BLOB))
            - length(CAST(COALESCE(old.answer, '') AS BLOB)) WHERE session_id = new.session_id;
    END
    """,
    """
    CREATE TABLE requests (
        owner TEXT NOT NULL,
        key TEXT NOT NULL,
        digest TEXT NOT NULL,
        session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        expires_seconds REAL NOT NULL,
        PRIMARY KEY (owner, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX requests_by_session ON requests (session_id);
    CREATE INDEX requests_by_expiry ON requests (expires_seconds);
    CREATE TRIGGER request_counts AFTER INSERT ON requests BEGIN
        UPDATE usage SET bytes = bytes + 300 WHERE session_id = new.session_id;
    END;
    CREATE TRIGGER request_is_gone AFTER DELETE ON requests BEGIN
        UPDATE usage SET bytes = bytes - 300 WHERE session_id = old.session_id;
    END
    """,
    """
    CREATE TABLE installation (secret BLOB NOT NULL) STRICT;
    INSERT INTO installation VALUES (new_secret());
    UPDATE usage SET owner = keyed_owner((SELECT secret FROM installation), owner)
        WHERE length(owner) = 64;
    UPDATE owners SET owner = keyed_owner((SELECT secret FROM installation), owner)
        WHERE length(owner) = 64;
    UPDATE requests SET owner = keyed_owner((SELECT secret FROM installation), owner)
        WHERE length(owner) = 64;
    UPDATE sessions SET owner = keyed_owner((SELECT secret FROM installation), owner)
        WHERE length(owner) = 64
    """,
    """
    CREATE TABLE answer_log (
        id INTEGER PRIMARY KEY,
        answered_seconds REAL NOT NULL,
        answered_by TEXT,
        session_id TEXT NOT NULL,
        owner TEXT NOT NULL,
        shown TEXT NOT NULL,
        answer TEXT NOT NULL
    ) STRICT;
    CREATE TRIGGER answer_is_logged AFTER UPDATE OF answer ON approvals
    WHEN new.answer IS NOT NULL BEGIN
        INSERT INTO answer_log (answered_seconds, answered_by, session_id, owner, shown, answer)
            SELECT new.answered_seconds, json_extract(new.answer, '$.by'), new.session_id, owner,
                new.question, new.answer FROM sessions WHERE id = new.session_id;
    END;
    CREATE TRIGGER answer_log_is_not_changed BEFORE UPDATE ON answer_log BEGIN
        SELECT RAISE(ABORT, 'the log of answers is only added to');
    END;
    CREATE TRIGGER answer_log_is_not_shortened BEFORE DELETE ON answer_log BEGIN
        SELECT RAISE(ABORT, 'the log of answers is only added to');
    END
    """,
    """
    CREATE TABLE response_chains (
        number INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        bytes INTEGER NOT NULL DEFAULT 0,
        used_seconds REAL NOT NULL
    ) STRICT;
    CREATE INDEX response_chains_by_use ON response_chains (owner, used_seconds);
    CREATE TABLE responses (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        chain INTEGER NOT NULL REFERENCES response_chains (number) ON DELETE CASCADE,
        owner TEXT NOT NULL,
        id TEXT NOT NULL,
        previous INTEGER,
        runs INTEGER NOT NULL,
        input TEXT NOT NULL,
        output TEXT NOT NULL,
        body TEXT NOT NULL,
        events TEXT NOT NULL DEFAULT '',
        bytes INTEGER NOT NULL AS (300 + length(input) + length(output) + length(body)
            + length(events)) STORED,
        UNIQUE (owner, id)
    ) STRICT;
    CREATE INDEX responses_by_chain ON responses (chain);
    CREATE INDEX responses_by_previous ON responses (previous) WHERE previous IS NOT NULL;
    CREATE INDEX responses_that_run ON responses (owner) WHERE runs;
    CREATE TRIGGER chain_begins AFTER INSERT ON response_chains BEGIN
        INSERT INTO owners VALUES (new.owner, new.bytes)
            ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER chain_changes AFTER UPDATE OF bytes ON response_chains BEGIN
        UPDATE owners SET bytes = bytes + new.bytes - old.bytes WHERE owner = new.owner;
    END;
    CREATE TRIGGER chain_ends AFTER DELETE ON response_chains BEGIN
        UPDATE owners SET bytes = bytes - old.bytes WHERE owner = old.owner;
    END;
    CREATE TRIGGER response_counts AFTER INSERT ON responses BEGIN
        UPDATE response_chains SET bytes = bytes + new.bytes WHERE number = new.chain;
    END;
    CREATE TRIGGER response_changes AFTER UPDATE ON responses BEGIN
        UPDATE response_chains SET bytes = bytes + new.bytes - old.bytes WHERE number = new.chain;
    END;
    CREATE TRIGGER response_is_gone AFTER DELETE ON responses BEGIN
        UPDATE response_chains SET bytes = bytes - old.bytes WHERE number = old.chain;
    END
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
    connection.create_function("new_secret", 0, lambda: secrets.token_bytes(32))
    connection.create_function("keyed_owner", 2, keyed_owner)
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        # `executescript` commits by itself: the transaction is part of the script.
        connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")
