"""Calls that go on after their session is over: nobody waits for their results."""

import asyncio
import logging
import sys
from collections.abc import Iterable
from itertools import groupby

from caesura.session.approvals import Approvals
from caesura.session.events import EventLog
from caesura.session.journal import Journal
from caesura.session.pending_calls import PendingCalls
from caesura.session.store import Store
from caesura.tools.call import ToolCall
from caesura.tools.executor import Executor

logger = logging.getLogger(__name__)


class LeftCalls:
    """Runs them; their results are written down and told to nobody.

    Args:
        executor: runs calls.
        store: where they are written.
        approvals: what calls need, and do not get without a session.
    """

    def __init__(self, executor: Executor, store: Store, approvals: Approvals) -> None:
        self._executor = executor
        self._store = store
        self._approvals = approvals
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Go on with those of an earlier life."""
        records = await self._store.left_calls()
        for session_id, of_session in groupby(records, lambda record: record.call.session_id):
            calls = self._calls_of(session_id)
            calls.records = list(of_session)
            calls.start(calls.records)
            self.take(calls.release({record.call.id for record in calls.records}))

    def take(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        """Keep the tasks of a session that is over until they are done."""
        for task in tasks:
            self._tasks.add(task)
            task.add_done_callback(self._done)

    async def stop(self) -> None:
        """Stop them where they are; `start` goes on with them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the result of a call that was left could not be written: %s", error)

    def _calls_of(self, session_id: str) -> PendingCalls:
        events = EventLog(session_id, 1, self._store)
        events.close()
        journal = Journal(
            events,
            self._store,
            self._approvals,
            _nobody_expects,
            _nobody_waits,
            _at_once,
            session_id,
        )
        return PendingCalls(
            session_id,
            None,
            self._executor,
            self._store,
            events,
            journal,
            lambda: None,
            sys.maxsize,  # as many as were run before
        )


def _nobody_expects(
    call: ToolCall, fraction: float | None, remaining_seconds: float | None
) -> None:
    """Nothing waits for the call."""


def _nobody_waits(call_id: str, for_human: bool) -> None:
    """Nothing waits for the call."""


async def _at_once() -> None:
    """Nothing holds the call back."""
