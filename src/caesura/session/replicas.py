"""Servers that share one database: which of them runs which session.

Each is a replica, with a row and a lease by the database's clock. A session is run by one replica,
or by none; none has it while nothing is to be done. Sessions of a replica whose lease is over are
due, and any replica that serves the same model and has their tools takes them.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg

from caesura.session.database.postgres import Identity, PostgresBackend
from caesura.session.errors import StoreUnavailable
from caesura.session.store.postgres_schema import CHANNEL, MIGRATIONS

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

LEASE_SECONDS = 10.0
SHARE = 16
"""Sessions that a replica takes at once: others come in between and take theirs."""
_HAS_LEFT = (
    "EXISTS (SELECT 1 FROM calls WHERE session_id = sessions.id AND state IN"
    " ('issued', 'dispatched'))"
)
_TOOLS = "CAST(spec AS JSON) -> 'tools'"
_FITS = (
    "fingerprint = $2 AND NOT EXISTS (SELECT 1 FROM json_array_elements_text("
    f"CASE json_typeof({_TOOLS}) WHEN 'array' THEN {_TOOLS} ELSE '[]' END) AS asked"
    " WHERE NOT (asked = ANY ($3)))"
)


@dataclass(frozen=True, slots=True)
class Served:
    """What a replica serves: with what it can go on with a session.

    Attributes:
        fingerprint: of model, tokenizer and chat template: transcripts are tokens.
        name: the model, for people.
        tools: those that it has.
        address: where other replicas reach it.
    """

    fingerprint: str
    name: str
    tools: tuple[str, ...]
    address: str


@dataclass(frozen=True, slots=True)
class Round:
    """What a look at the database has given.

    Attributes:
        is_lost: the lease is over: others may have all sessions of this replica.
        taken: ids of sessions that this replica runs from now on.
        news: ids of its sessions for which something has come by another one.
        leads: it does what one of all replicas does.
    """

    is_lost: bool = False
    taken: tuple[str, ...] = ()
    news: tuple[str, ...] = ()
    leads: bool = False


class Replicas:
    """This server among those that share its database.

    Args:
        backend: the database.
        served: what this one serves.
        lease_seconds: for so long a replica that is not heard of keeps its sessions.
    """

    def __init__(
        self, backend: PostgresBackend, served: Served, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._backend = backend
        self._served = served
        self._lease_seconds = lease_seconds
        self._thread = ThreadPoolExecutor(1, "caesura-replica")
        self._connection: psycopg.Connection[Any] | None = None
        self._id = ""
        self._warned = 0

    @property
    def id(self) -> str:
        """The name of this replica; a new one whenever it begins anew."""
        return self._id

    async def begin(self) -> None:
        """Take part, with no sessions yet.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        await self._on_thread(self._begin)

    async def round(self) -> Round:
        """Renew the lease, look for sessions that are due, and wait for news for a while.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        return await self._on_thread(self._round)

    async def leave(self) -> None:
        """Hand over all sessions: others take them at once. None may be running here by now.

        Without the database they are taken once the lease is over.
        """
        await asyncio.to_thread(self._wake)
        try:
            await self._on_thread(self._leave)
        except StoreUnavailable as error:
            logger.warning("sessions wait for %g s: %s", self._lease_seconds, error)
        self._backend.identity = None
        self._thread.shutdown(wait=False)

    async def _on_thread(self, work: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except psycopg.Error as error:
            raise StoreUnavailable(f"the session store does not answer: {error}") from error

    # On the thread

    def _begin(self) -> None:
        connection, served = self._connected(), self._served
        identity = Identity(uuid.uuid4().hex, served.fingerprint)
        connection.execute(
            "INSERT INTO replicas (id, address, fingerprint, serves, version, lease_until)"
            " VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6 * INTERVAL '1 second')",
            (
                identity.replica,
                served.address,
                served.fingerprint,
                served.name,
                len(MIGRATIONS),
                float(self._lease_seconds),
            ),
        )
        self._id = identity.replica
        self._backend.identity = identity
        others = connection.execute(
            "SELECT DISTINCT serves, address FROM replicas WHERE fingerprint <> $1"
            " AND lease_until > clock_timestamp()",
            (served.fingerprint,),
        ).fetchall()
        for name, address in others:
            logger.warning(
                "the database %s is also used by %s, which serves %s with other settings: neither "
                "goes on with the other's sessions. Give each group of servers a database of its "
                "own, unless one replaces the other",
                self._backend.name,
                address,
                name,
            )

    def _round(self) -> Round:
        connection = self._connected()
        renewed = connection.execute(
            "UPDATE replicas SET lease_until = clock_timestamp() + $2 * INTERVAL '1 second'"
            " WHERE id = $1 AND lease_until > clock_timestamp()",
            (self._id, float(self._lease_seconds)),
        )
        if not renewed.rowcount:
            return Round(is_lost=True)
        self._release(connection)
        taken = self._take(connection)
        leads = self._leads(connection)
        if taken:
            return Round(taken=taken, leads=leads)
        self._say_what_waits(connection)
        told = connection.notifies(timeout=self._lease_seconds / 3, stop_after=1)
        words = [notification.payload.split(" ") for notification in told]
        return Round(news=tuple(w[1] for w in words if w[0] == self._id), leads=leads)

    def _release(self, connection: "psycopg.Connection[Any]") -> None:
        """Make the sessions due of replicas that are gone."""
        with connection.transaction():
            gone = connection.execute(
                "SELECT id FROM replicas WHERE lease_until <= clock_timestamp()"
                " FOR UPDATE SKIP LOCKED"
            ).fetchall()
            if not gone:
                return
            ids = [replica for (replica,) in gone]
            connection.execute(
                "UPDATE sessions SET replica = NULL, due = TRUE WHERE replica = ANY ($1)"
                f" AND (phase <> 'ended' OR {_HAS_LEFT})",
                (ids,),
            )
            connection.execute("DELETE FROM replicas WHERE id = ANY ($1)", (ids,))
            connection.execute(f"SELECT pg_notify('{CHANNEL}', '')")

    def _take(self, connection: "psycopg.Connection[Any]") -> tuple[str, ...]:
        with connection.transaction():
            fence = connection.execute(
                "SELECT 1 FROM replicas WHERE id = $1 AND lease_until > clock_timestamp()"
                " FOR KEY SHARE",
                (self._id,),
            ).fetchone()
            if fence is None:
                return ()
            rows = connection.execute(
                "UPDATE sessions SET replica = $1, due = FALSE WHERE id IN (SELECT id FROM"
                f" sessions WHERE replica IS NULL AND due AND {_FITS} ORDER BY updated_seconds"
                f" LIMIT {SHARE} FOR UPDATE SKIP LOCKED) RETURNING id",
                (self._id, self._served.fingerprint, list(self._served.tools)),
            ).fetchall()
        return tuple(session_id for (session_id,) in rows)

    def _leads(self, connection: "psycopg.Connection[Any]") -> bool:
        row = connection.execute(
            "SELECT id FROM replicas WHERE lease_until > clock_timestamp()"
            " ORDER BY began, id LIMIT 1"
        ).fetchone()
        return row is not None and row[0] == self._id

    def _say_what_waits(self, connection: "psycopg.Connection[Any]") -> None:
        row = connection.execute(
            "SELECT COUNT(*) FROM sessions WHERE replica IS NULL AND due AND $1 <> ''"
            f" AND ({_FITS}) IS NOT TRUE",
            (self._id, self._served.fingerprint, list(self._served.tools)),
        ).fetchone()
        waiting = 0 if row is None else int(row[0])
        if waiting > self._warned:
            logger.warning(
                "%d sessions wait for a server with their model and their tools: this one serves "
                "%s, or lacks some",
                waiting,
                self._served.name,
            )
        self._warned = waiting

    def _leave(self) -> None:
        connection = self._connected()
        connection.execute(
            "UPDATE replicas SET lease_until = '-infinity' WHERE id = $1", (self._id,)
        )
        self._release(connection)
        connection.close()

    def _wake(self) -> None:
        """End a round that waits."""
        try:
            with self._backend.connected() as connection:
                connection.execute(f"SELECT pg_notify('{CHANNEL}', '')")
        except psycopg.Error as error:
            logger.warning("the database %s does not answer: %s", self._backend.name, error)

    def _connected(self) -> "psycopg.Connection[Any]":
        if self._connection is None or self._connection.closed:
            self._connection = self._backend.connected()
            self._connection.execute(f"LISTEN {CHANNEL}")
        return self._connection
