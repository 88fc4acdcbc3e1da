"""Calls that go on after their session is over: nobody waits for their results."""

import asyncio
import logging
import sys
from collections.abc import Collection, Iterable, Mapping
from itertools import groupby

from caesura.session.approvals import Approvals
from caesura.session.errors import StoreUnavailable
from caesura.session.events import EventLog
from caesura.session.journal import Journal
from caesura.session.pending_calls import PendingCalls
from caesura.session.records import CallRecord
from caesura.session.store import Store
from caesura.tools.call import ToolCall
from caesura.tools.executor import Executor

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


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
        self._tasks: dict[asyncio.Task[None], frozenset[str]] = {}

    async def start(self, session_id: str | None = None) -> None:
        """Go on with those of an earlier life.

        Args:
            session_id: of one session; all by default.
        """
        self._begin(await self._store.left_calls(session_id))

    def _begin(self, records: Iterable[CallRecord]) -> None:
        for session_id, of_session in groupby(records, lambda record: record.call.session_id):
            calls = self._calls_of(session_id)
            calls.records = list(of_session)
            calls.start(calls.records)
            self.take(calls.release({record.call.id for record in calls.records}))

    def take(self, tasks: Mapping[asyncio.Task[None], frozenset[str]]) -> None:
        """Keep the tasks of a session that is over until they are done.

        Args:
            tasks: with the ids of their calls.
        """
        self._tasks |= tasks
        for task in tasks:
            task.add_done_callback(self._done)

    async def stop(self) -> None:
        """Stop them where they are; `start` goes on with them."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        call_ids = self._tasks.pop(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        logger.error("what came of a call that was left could not be written: %s", error)
        if isinstance(error, StoreUnavailable):
            again = asyncio.create_task(self._begin_again(call_ids), name="left calls")
            self.take({again: call_ids})

    async def _begin_again(self, call_ids: Collection[str]) -> None:
        """Go on from what is stored of calls, as soon as that can be read."""
        await asyncio.sleep(RETRY_SECONDS)
        records = await self._store.left_calls()
        self._begin(record for record in records if record.call.id in call_ids)

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
