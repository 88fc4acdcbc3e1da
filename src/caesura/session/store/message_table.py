"""The table of user messages that are not in their sessions' transcripts yet."""

from caesura.session.database import Statement
from caesura.session.store.table import Table


class MessageTable(Table):
    """A row per message that waits."""

    def add_message(self, session_id: str, text: str) -> Statement:
        """A user's message, to be delivered to the model."""
        return Statement(
            "INSERT INTO inbox (session_id, message, created_seconds) VALUES (?, ?, ?)",
            (session_id, text, self.clock()),
        )

    def take_messages(self, session_id: str, last: int) -> Statement:
        """The messages up to a number were delivered."""
        return Statement("DELETE FROM inbox WHERE session_id = ? AND id <= ?", (session_id, last))

    def drop_messages(self, session_id: str) -> Statement:
        """No message of the session will be delivered."""
        return Statement("DELETE FROM inbox WHERE session_id = ?", (session_id,))

    async def messages(self, session_id: str) -> list[tuple[int, str]]:
        """Numbers and texts of the messages that wait."""
        rows = await self._database.read(
            "SELECT id, message FROM inbox WHERE session_id = ? ORDER BY id", (session_id,)
        )
        return [(int(number), str(text)) for number, text in rows]
