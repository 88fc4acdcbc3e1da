"""What is kept while a session's calls run."""

import asyncio
from collections.abc import Awaitable, Callable

from pydantic import JsonValue

from caesura.session.approvals import Approvals
from caesura.session.events import EventLog
from caesura.session.records import EventType
from caesura.session.store import Store
from caesura.tools.call import Answer, Question, ToolCall

Expect = Callable[[ToolCall, float | None, float | None], None]
Asks = Callable[[str, bool], None]


class Journal:
    """`tools.CallJournal` of one session: all of it is written down.

    Args:
        events: the session's; what is written goes through them.
        store: where it is written.
        approvals: what waits for a human.
        expect: receives how far a call is: the share that is done, the seconds that are left.
        asks: receives the id of a call and whether it waits for a human now.
        released: waits for as long as the session's user has paused it.
        owner: whose session it is.
    """

    def __init__(
        self,
        events: EventLog,
        store: Store,
        approvals: Approvals,
        expect: Expect,
        asks: Asks,
        released: Callable[[], Awaitable[None]],
        owner: str,
    ) -> None:
        self.owner = owner
        self._events = events
        self._store = store
        self._approvals = approvals
        self._expect = expect
        self._asks = asks
        self._released = released
        self._asking = asyncio.Lock()  # first come, first asked: reads of the store overtake

    async def dispatching(self, call: ToolCall, attempt: int) -> None:
        """Write down that the call's tool is about to be run, as soon as it may be."""
        await self._released()
        data: dict[str, JsonValue] = {"call_id": call.id, "attempt": attempt}
        await self._events.commit(
            self._store.dispatch_call(call.id, attempt), reports=[(EventType.DISPATCHED, data)]
        )

    async def ask(self, question: Question) -> Answer:
        """A human's answer; after a restart the question is the same, and still waits.

        Questions are asked in the order in which they come here, that of their calls. Nobody is
        asked on behalf of a session that is over.
        """
        if self._events.is_over:
            return Answer(accepted=False, reason="the session is over")
        async with self._asking:
            await self._write_down(question)
        self._asks(question.call_id, True)
        try:
            answer = await self._approvals.wait(question)
        finally:
            self._asks(question.call_id, False)
        told: dict[str, JsonValue] = {
            "approval_id": question.key,
            "accepted": answer.accepted,
            "reason": answer.reason,
            "by": answer.by,
        }
        await self._events.commit(reports=[(EventType.ANSWERED, told)])
        return answer

    async def _write_down(self, question: Question) -> None:
        if await self._store.approval(question.key) is None:
            asked: dict[str, JsonValue] = {
                "approval_id": question.key,
                "call_id": question.call_id,
                "kind": question.kind,
                "text": question.text,
                "tool": question.tool,
                "arguments": dict(question.arguments),
                "provider": question.provider,
            }
            await self._events.commit(
                self._store.add_approval(question), reports=[(EventType.ASKED, asked)]
            )

    def progress(
        self,
        call: ToolCall,
        fraction: float | None,
        remaining_seconds: float | None,
        message: str | None,
    ) -> None:
        """Report how far a call is."""
        data: dict[str, JsonValue] = {
            "call_id": call.id,
            "fraction": fraction,
            "remaining_seconds": remaining_seconds,
            "message": message,
        }
        self._events.piece(EventType.PROGRESS, data)
        self._expect(call, fraction, remaining_seconds)
