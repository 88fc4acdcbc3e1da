"""What owners have: the tables that triggers keep, and the limits on them."""

from caesura.session.database import Check, Statement
from caesura.session.errors import QuotaExceeded, TooManySessions
from caesura.session.store.table import Table
from caesura.units import format_size

_MINUTE_SECONDS = 60.0


class UsageTable(Table):
    """A row per session with what it takes, and one per owner with what all of its take.

    The limits are conditions of the transaction that writes, so that many requests at the same
    time cannot exceed them together.
    """

    async def owner_bytes(self, owner: str) -> int:
        """What all sessions of an owner take."""
        rows = await self._database.read("SELECT bytes FROM owners WHERE owner = ?", (owner,))
        return int(rows[0][0]) if rows else 0

    async def owners(self) -> dict[str, int]:
        """What all sessions of each owner take."""
        rows = await self._database.read("SELECT owner, bytes FROM owners")
        return {str(owner): int(size_bytes) for owner, size_bytes in rows}

    def make_room(self, owner: str, limit_bytes: int) -> Statement:
        """Forget as many ended sessions of the owner, the oldest first, as there is too much of.

        Nobody else's are touched.
        """
        return Statement(
            "DELETE FROM sessions WHERE id IN (SELECT id FROM"
            " (SELECT s.id, o.bytes - ?2 AS excess, SUM(u.bytes) OVER"
            " (ORDER BY s.updated_seconds, s.id) - u.bytes AS freed FROM owners AS o"
            " CROSS JOIN sessions AS s CROSS JOIN usage AS u WHERE o.owner = ?1 AND o.bytes > ?2"
            " AND s.owner = o.owner AND s.phase = 'ended' AND u.session_id = s.id) AS ended"
            " WHERE freed < excess)",
            (owner, limit_bytes),
        )

    def forget_conversations(self, owner: str, limit_bytes: int, but_of: str = "") -> Statement:
        """The same for the conversations of the Responses API, but the one of a response."""
        return Statement(
            "DELETE FROM response_chains WHERE number IN (SELECT number FROM"
            " (SELECT c.number, o.bytes - ?2 AS excess, SUM(c.bytes) OVER"
            " (ORDER BY c.used_seconds, c.number) - c.bytes AS freed FROM owners AS o"
            " CROSS JOIN response_chains AS c WHERE o.owner = ?1 AND o.bytes > ?2"
            " AND c.owner = o.owner AND c.number NOT IN"
            " (SELECT chain FROM responses WHERE owner = ?1 AND id = ?3)) AS kept"
            " WHERE freed < excess)",
            (owner, limit_bytes, but_of),
        )

    def room(self, owner: str, limit_bytes: int) -> tuple[Statement | Check, ...]:
        """Make room for what was written before in the transaction; refuse it if there is none."""
        return (
            self.make_room(owner, limit_bytes),
            self.forget_conversations(owner, limit_bytes),
            self._require_room(owner, limit_bytes),
        )

    def room_for_response(
        self, owner: str, response_id: str, limit_bytes: int
    ) -> tuple[Statement | Check, ...]:
        """The same for a response that was written: no session gives way for it."""
        return (
            self.forget_conversations(owner, limit_bytes, response_id),
            self._require_room(owner, limit_bytes),
        )

    def _require_room(self, owner: str, limit_bytes: int) -> Check:
        message = (
            f"what is kept of your sessions would be more than {format_size(limit_bytes)} "
            "(sessions.owner_size): end some, or wait until they have been forgotten"
        )
        return Check(
            "SELECT COALESCE((SELECT bytes FROM owners WHERE owner = ?), 0) <= ?",
            (owner, limit_bytes),
            QuotaExceeded(message),
        )

    def require_few_open(self, owner: str, limit: int) -> Check:
        """Refuse one more session that has not ended."""
        return Check(
            "SELECT COUNT(*) < ? FROM sessions WHERE owner = ? AND phase != 'ended'",
            (limit, owner),
            TooManySessions(f"{limit} sessions are open: end some, or wait"),
        )

    def require_few_made(self, owner: str, limit: int) -> Check:
        """Refuse one more session in this minute."""
        now = self.clock()
        return Check(
            "SELECT COUNT(*) < ? FROM sessions WHERE owner = ? AND created_seconds > ?"
            " AND created_seconds <= ?",
            (limit, owner, now - _MINUTE_SECONDS, now),
            QuotaExceeded(
                f"{limit} sessions were made within a minute (sessions.sessions_per_minute): wait",
                _MINUTE_SECONDS,
            ),
        )

    def require_few_waiting(self, session_id: str, limit: int) -> Check:
        """Refuse one more message that waits."""
        return Check(
            "SELECT COUNT(*) < ? FROM inbox WHERE session_id = ?",
            (limit, session_id),
            QuotaExceeded(f"{limit} messages wait already (sessions.waiting_messages)"),
        )
