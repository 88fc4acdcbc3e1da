"""The table of requests that their clients may send again, and that are carried out once."""

from collections.abc import Sequence
from dataclasses import dataclass

from caesura.session.database import Check, Statement
from caesura.session.errors import RequestConflict, RequestRepeated
from caesura.session.records import Phase
from caesura.session.store.table import Table

KEPT_SECONDS = 24 * 3600.0
_FOR_EVER = 1e18


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What a client calls a request, so that it can be recognised.

    Attributes:
        key: the name, among the requests of its owner.
        digest: of all that is asked for: another request of the same name has another.
        lasts: it is recognised for as long as its session is kept; else for `KEPT_SECONDS`.
    """

    key: str
    digest: str
    lasts: bool = False


class RequestTable(Table):
    """A row per request that was carried out, kept with the session that it made or changed."""

    def refuse_repeated(self, owner: str, keys: Sequence[RequestKey]) -> list[Statement | Check]:
        """Refuse the transaction with `RequestRepeated` if the request was carried out before."""
        now = self.clock()
        return [
            change
            for key in keys
            for change in (
                Statement(
                    "DELETE FROM requests WHERE owner = ? AND key = ? AND expires_seconds <= ?",
                    (owner, key.key, now),
                ),
                Check(
                    "SELECT NOT EXISTS (SELECT 1 FROM requests WHERE owner = ? AND key = ?)",
                    (owner, key.key),
                    RequestRepeated("the request was carried out before"),
                ),
            )
        ]

    def add_requests(
        self, owner: str, keys: Sequence[RequestKey], session_id: str
    ) -> list[Statement]:
        """The request is carried out, for a session that exists by then."""
        expires_seconds = self.clock() + KEPT_SECONDS
        return [
            Statement(
                "INSERT INTO requests (owner, key, digest, session_id, expires_seconds)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    owner,
                    key.key,
                    key.digest,
                    session_id,
                    _FOR_EVER if key.lasts else expires_seconds,
                ),
            )
            for key in keys
        ]

    async def repeated(self, owner: str, keys: Sequence[RequestKey]) -> str | None:
        """The session of a request that was carried out before; None if it was not.

        Raises:
            RequestConflict: another request has had one of these names.
        """
        found = None
        for key in keys:
            rows = await self._database.read(
                "SELECT digest, session_id FROM requests WHERE owner = ? AND key = ?"
                " AND expires_seconds > ?",
                (owner, key.key, self.clock()),
            )
            for digest, session_id in rows:
                if digest != key.digest:
                    raise RequestConflict(
                        f"another request was made with the same {key.key.partition(' ')[0]}: "
                        "choose a new one"
                    )
                found = str(session_id)
        return found

    async def requested(self, owner: str, prefix: str, ended_after_seconds: float) -> list[str]:
        """The sessions of requests whose names begin so, the newest first.

        Args:
            owner: of the requests.
            prefix: of their names.
            ended_after_seconds: sessions that ended before are left out.
        """
        rows = await self._database.read(
            "SELECT made.id FROM requests AS asked JOIN sessions AS made"
            " ON made.id = asked.session_id WHERE asked.owner = ? AND asked.key > ?"
            " AND asked.key < ? AND asked.expires_seconds > ?"
            " AND (made.phase != ? OR made.updated_seconds >= ?)"
            " ORDER BY made.rowid DESC",
            (owner, prefix, f"{prefix}~", self.clock(), Phase.ENDED, ended_after_seconds),
        )
        return [str(session_id) for (session_id,) in rows]

    def forget_requests(self, now_seconds: float) -> Statement:
        """Requests that are not recognised any more."""
        return Statement("DELETE FROM requests WHERE expires_seconds <= ?", (now_seconds,))
