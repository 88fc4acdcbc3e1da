"""Messages of the user that wait for their place in the transcript."""

from collections.abc import Sequence
from dataclasses import dataclass

from caesura.session.database import Statement
from caesura.session.store import Store


@dataclass(frozen=True, slots=True)
class UserMessage:
    """A message that waits, with its number in the inbox."""

    number: int
    text: str


class Inbox:
    """The messages of one session, on disk until they are in its transcript.

    Args:
        session_id: the session.
        store: where they are written.

    Attributes:
        has_news: there may be messages that were not looked at.
    """

    def __init__(self, session_id: str, store: Store) -> None:
        self.has_news = True  # from before a restart
        self._session_id = session_id
        self._store = store
        self._last_passed_on = 0

    async def waiting(self) -> list[UserMessage]:
        """All messages that are not in the transcript."""
        self.has_news = False
        stored = await self._store.messages(self._session_id)
        return [UserMessage(number, text) for number, text in stored]

    async def pass_on(self) -> list[UserMessage]:
        """Messages for the engine that it did not get before."""
        messages = [m for m in await self.waiting() if m.number > self._last_passed_on]
        if messages:
            self._last_passed_on = messages[-1].number
        return messages

    def recall(self) -> None:
        """The engine does not have what was passed on, or not any more: it waits again."""
        self._last_passed_on = 0
        self.has_news = True

    def delivered(self, messages: Sequence[UserMessage]) -> list[Statement]:
        """They are in the transcript: the change that says so."""
        if not messages:
            return []
        return [self._store.take_messages(self._session_id, messages[-1].number)]
