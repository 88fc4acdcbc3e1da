"""What waits for a human, across restarts."""

import asyncio
from collections.abc import Callable, Sequence

from caesura.session.database import Check, Statement
from caesura.session.store import Store
from caesura.tools.call import Answer, Question


class Approvals:
    """Questions to humans and their answers.

    Args:
        store: where they are written.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self.on_change: list[Callable[[], None]] = []

    async def wait(self, question: Question) -> Answer:
        """The answer to a question that is written down already, now or once it comes."""
        future = self._waiting.get(question.key)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            self._waiting[question.key] = future
        record = await self._store.approval(question.key)
        if record is not None and record.answer is not None and not future.done():
            future.set_result(record.answer)
        self._changed()
        try:
            return await asyncio.shield(future)
        finally:
            self._waiting.pop(question.key, None)

    async def look_again(self, session_id: str) -> None:
        """What a session has asked may have been answered by another server."""
        for key, future in [*self._waiting.items()]:
            record = await self._store.approval(key)
            if record is None or record.question.session_id != session_id:
                continue
            if record.answer is not None and not future.done():
                future.set_result(record.answer)

    async def answer(
        self,
        key: str,
        answer: Answer,
        first: Sequence[Statement | Check] = (),
        then: Sequence[Statement | Check] = (),
    ) -> bool:
        """Give an answer; False if the question does not wait any more.

        Args:
            key: the question.
            answer: the answer.
            first: what is written or must hold before it.
            then: what is written or must hold after it.
        """
        if not await self._store.answer(key, answer, first, then):
            return False
        future = self._waiting.get(key)
        if future is not None and not future.done():
            future.set_result(answer)
        self._changed()
        return True

    def _changed(self) -> None:
        for listener in self.on_change:
            listener()
