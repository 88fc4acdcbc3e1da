"""Sessions on disk: what must survive a crash, and the statements that write it.

A change of a session is made of several statements that are committed together, so the
methods that change something give a `Statement`, and `commit` takes as many as belong together.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from caesura.session.database import Check, Database, Statement
from caesura.session.records import SessionEnding
from caesura.session.store.approval_table import ApprovalTable
from caesura.session.store.call_table import CallTable
from caesura.session.store.clock import SteadyClock
from caesura.session.store.event_table import EventTable
from caesura.session.store.message_table import MessageTable
from caesura.session.store.opening import is_shared, opened
from caesura.session.store.request_table import RequestTable
from caesura.session.store.response_table import ResponseTable
from caesura.session.store.session_table import SessionTable
from caesura.session.store.transcript_table import TranscriptTable


class Store(
    SessionTable,
    TranscriptTable,
    CallTable,
    MessageTable,
    EventTable,
    ApprovalTable,
    RequestTable,
    ResponseTable,
):
    """All sessions, in one database.

    Args:
        where: the SQLite file, or the address of a database of PostgreSQL.
        clock: wall-clock seconds; by default they do not jump, and begin with the database's.

    Attributes:
        name: the database, for people; without passwords.
        is_shared: several servers can use it at the same time.
        backend: what kind it is of.

    Raises:
        ConfigurationError: it cannot be used.
    """

    def __init__(self, where: Path | str, clock: Callable[[], float] | None = None) -> None:
        self.backend, wall = opened(where)
        database = Database(self.backend)
        self.name, self.is_shared = database.name, is_shared(where)
        super().__init__(database, clock or SteadyClock(wall))

    async def secret(self) -> bytes:
        """What the names of this installation's owners are made with (`keyed_owner`)."""
        rows = await self._database.read("SELECT secret FROM installation")
        return bytes(rows[0][0])

    async def commit(self, *changes: Statement | Check) -> int:
        """Write changes that belong together; on return they are on disk.

        Returns:
            How many rows the last of them has changed.

        Raises:
            StoreUnavailable: nothing was written.
            Exception: the refusal of a check.
        """
        return await self._database.write(*changes)

    async def require(self, *checks: Check) -> None:
        """Raise the refusal of the first condition that does not hold now."""
        await self._database.require(*checks)

    def problem(self) -> str | None:
        """What only a restart of the server can repair; None if there is no such thing."""
        return self._database.problem()

    def close(self) -> None:
        """Write what was submitted and close the database."""
        self._database.close()

    def end_session(
        self, session_id: str, ending: SessionEnding, error: str | None
    ) -> Sequence[Statement]:
        """The session is over; what waits for its model is dropped, what it asked withdrawn."""
        return (
            self.close_session(session_id, ending, error),
            self.drop_messages(session_id),
            self.withdraw_all_questions(session_id),
        )
