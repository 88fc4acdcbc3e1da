"""The calls of a session whose results its model has not seen, and the tasks that run them."""

import asyncio
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace

from caesura.cml import error_content
from caesura.session.database import Statement
from caesura.session.events import EventLog
from caesura.session.journal import Journal
from caesura.session.records import CallRecord, CallState, EventType
from caesura.session.shapes import result_details
from caesura.session.store import Store
from caesura.tools.call import CallEnding, CallResult, ToolCall
from caesura.tools.executor import Executor


class PendingCalls:
    """The pending calls of one session; each has a place in the store.

    Args:
        session_id: the session.
        offered: names of the tools that it may call; None for all.
        executor: runs calls.
        store: where they and their results are written.
        events: where results are reported.
        journal: what is kept while they run.
        changed: called whenever a result is there, or could not be written.
        per_turn: calls of one turn that are run; the others are refused.

    Attributes:
        records: the calls, in the order in which they were made.
        unread: ids of calls whose results the model will never read.
    """

    def __init__(
        self,
        session_id: str,
        offered: Sequence[str] | None,
        executor: Executor,
        store: Store,
        events: EventLog,
        journal: Journal,
        changed: Callable[[], None],
        per_turn: int,
    ) -> None:
        self.records: list[CallRecord] = []
        self._session_id = session_id
        self._offered = offered
        self._executor = executor
        self._store = store
        self._events = events
        self._journal = journal
        self._changed = changed
        self._per_turn = per_turn
        self.unread: set[str] = set()
        self._tasks: dict[asyncio.Task[None], frozenset[str]] = {}
        self._failure: BaseException | None = None

    async def load(self) -> None:
        """Take them from the store; none is run yet."""
        self.records = await self._store.undelivered_calls(self._session_id, with_results=True)
        self._executor.expect(record.call.name for record in self.unfinished)

    @property
    def unfinished(self) -> list[CallRecord]:
        """Calls without a result."""
        return [record for record in self.records if record.result is None]

    @property
    def finished(self) -> list[CallRecord]:
        """Calls whose results wait to be given to the model."""
        return [record for record in self.records if record.result is not None]

    def add(
        self, name: str, arguments_text: str, turn: int, label: str | None = None
    ) -> CallRecord:
        """A new call, to be written down before it is run.

        What is no Unicode could not be written: it stays what it is in JSON, and is refused as
        arguments.
        """
        name = name.encode(errors="replace").decode()
        arguments_text = arguments_text.encode(errors="backslashreplace").decode()
        last = [record.position for record in self.records if record.turn == turn]
        position = max(last, default=-1) + 1
        call = ToolCall(f"call_{uuid.uuid4().hex}", name, arguments_text, self._session_id)
        record = CallRecord(call, turn, position, label=label)
        self.records.append(record)
        return record

    def remove(self, records: Iterable[CallRecord]) -> None:
        """The model has their results, or needs none."""
        gone = {record.call.id for record in records}
        self.records = [record for record in self.records if record.call.id not in gone]

    def start(self, records: Sequence[CallRecord]) -> None:
        """Run calls at the same time, those excepted that run already.

        Raises:
            StoreUnavailable: a result could not be written. Its call has run, which only the
                store knows: `load` before any is run again.
        """
        self.check()
        running = frozenset[str]().union(*self._tasks.values())
        new = [record for record in records if record.call.id not in running]
        if not new:
            return
        task = asyncio.create_task(self._run(new), name=f"calls of {self._session_id}")
        self._tasks[task] = frozenset(record.call.id for record in new)
        task.add_done_callback(self._ended)

    def check(self) -> None:
        """Raise what kept a result from being written, if anything did."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def stop(self, but: Collection[str] = ()) -> None:
        """Cancel whatever runs, these calls excepted."""
        tasks = [task for task, ids in self._tasks.items() if not ids <= set(but)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            self._tasks.pop(task, None)
        self._failure = None

    async def cancel(self, record: CallRecord) -> None:
        """Stop a call that runs, and write down that it was cancelled; nothing if it is done."""
        for task in [task for task, ids in self._tasks.items() if record.call.id in ids]:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if any(record.call.id == other.call.id for other in self.unfinished):
            await self.finish(self._executor.cancelled(record.call))

    def refusal(self, record: CallRecord, limit: int) -> CallResult:
        """The result of a call that is not run, since as many as are allowed are pending."""
        message = (
            f"{limit} calls are pending (max_pending_calls). Wait for a result, then call again."
        )
        return _not_run(record, "too_many_pending", message)

    def release(self, call_ids: Collection[str]) -> dict[asyncio.Task[None], frozenset[str]]:
        """Give away the tasks of calls that outlive the session, with the ids of their calls;
        they are pending no more."""
        released = {task: ids for task, ids in self._tasks.items() if ids <= set(call_ids)}
        for task in released:
            task.remove_done_callback(self._ended)
            del self._tasks[task]
        self.records = [record for record in self.records if record.call.id not in call_ids]
        return released

    async def finish(self, result: CallResult, *changes: Statement) -> None:
        """Write a result down, and other changes with it. What has begun is completed, also when
        its task is cancelled: the result is there or not, in the store and here."""
        writing = asyncio.create_task(self._write(result, changes))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.gather(writing, return_exceptions=True)
            raise

    async def _write(self, result: CallResult, changes: Sequence[Statement]) -> None:
        reports = [(EventType.RESULT, result_details(result))]
        await self._events.commit(*self.finished_by(result), *changes, reports=reports)
        self.note(result)

    def finished_by(self, result: CallResult) -> list[Statement]:
        """The changes that write a result down; `note` it then."""
        read = result.call_id not in self.unread
        return [
            self._store.finish_call(result),
            self._store.withdraw_questions(result.call_id),
            *([] if read else [self._store.deliver_call(result.call_id)]),
        ]

    def note(self, result: CallResult) -> None:
        """The result is written down."""
        self.records = [
            replace(record, state=CallState.DONE, result=result)
            if record.call.id == result.call_id
            else record
            for record in self.records
        ]
        if result.call_id in self.unread:
            self.records = [one for one in self.records if one.call.id != result.call_id]
        self._changed()

    def cancelled(self, but: Collection[str]) -> list[CallResult]:
        """Results of all calls that have none and get none, since the session ends."""
        left = [record.call for record in self.unfinished if record.call.id not in but]
        return [self._executor.cancelled(call) for call in left]

    async def _run(self, records: Sequence[CallRecord]) -> None:
        calls = []
        for record in records:
            if (result := self._without_running(record)) is not None:
                await self.finish(result)
            else:
                calls.append(record.call)
        async with aclosing(self._executor.execute_all(calls, self._journal)) as results:
            async for result in results:
                await self.finish(result)

    def _without_running(self, record: CallRecord) -> CallResult | None:
        """The result of a call that is not run, now or again."""
        call = record.call
        if record.position >= self._per_turn:
            message = f"only {self._per_turn} calls are run at once. Call again for the others."
            return _not_run(record, "too_many_calls", message)
        if self._offered is not None and call.name not in self._offered:
            return self._executor.unknown(call, self._offered)
        repeated = record.state is CallState.DISPATCHED
        if repeated and not self._executor.is_idempotent(call.name):
            return self._executor.interrupted(call)
        return None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._changed()


def _not_run(record: CallRecord, code: str, message: str) -> CallResult:
    content = error_content(code, message)
    return CallResult(record.call.id, record.call.name, CallEnding.FAILED, content, seconds=0)
