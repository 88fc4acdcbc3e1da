"""A session in the model's own tool-call format that goes on while its calls run."""

import json
from collections.abc import Sequence

from pydantic import JsonValue

from caesura.cml.futures import (
    AWAIT_TOOL,
    SYSTEM_PROMPT,
    await_tool,
    failed_text,
    pending_text,
    ready_text,
    unknown_text,
)
from caesura.cml.strict_json import UnsoundJson, read_json
from caesura.session.dialogue import Dialogue, WrittenCall
from caesura.session.protocol import StopReason
from caesura.session.records import CallRecord, EventType, Message, Phase, SessionRecord
from caesura.session.session import Session
from caesura.session.shapes import injected_details, read_details, said_by_tool, trapped_details
from caesura.session.stretch import Turn
from caesura.session.turn_agent import TurnAgent
from caesura.session.workplace import Workplace
from caesura.tools.call import CallEnding, CallResult


class FuturesAgent(TurnAgent):
    """A session whose calls are answered at once, with futures (`caesura.cml.futures`).

    The results come as results of the tool that waits for them, or with the answers to the
    next turn's calls. A model that ends its answer before is told what it has not read.
    """

    def __init__(
        self, record: SessionRecord, transcript: Sequence[int], workplace: Workplace
    ) -> None:
        super().__init__(record, transcript, workplace)
        self._definitions = [*self._definitions, await_tool()]
        self._futures: dict[str, str] = {}  # ids of calls by their futures

    async def _restore(self) -> None:
        await super()._restore()
        self._futures = await self._work.store.labels(self.id)
        if self.phase is Phase.IDLE:
            await self._leave()
        if self.phase is not Phase.ENDED:
            await self._start()

    # Generating

    def _add_calls(self, written: Sequence[WrittenCall]) -> list[CallRecord]:
        records = []
        for call in written:
            future = None if call.name == AWAIT_TOOL else f"f{len(self._futures) + 1}"
            record = self._calls.add(call.name, call.arguments_text, self.turns, future)
            if future is not None:
                self._futures[future] = record.call.id
            records.append(record)
        return records

    def _phase_after_turn(self) -> Phase:
        if self._unanswered or any(map(self._is_waited_for, self._calls.records)):
            return Phase.CALLING
        return Phase.IDLE

    async def _turn_over(self, session: Session, turn: Turn, stop: StopReason) -> None:
        await super()._turn_over(session, turn, stop)
        await self._start()
        if self.phase is Phase.IDLE:
            await self._leave()

    # Calls

    @property
    def _unanswered(self) -> list[CallRecord]:
        """The latest turn's calls, which the model has no answer to, not even a future."""
        return [record for record in self._calls.records if record.turn == self.turns]

    async def _start(self) -> None:
        """Run what does not run yet."""
        calls = [record for record in self._calls.unfinished if record.label is not None]
        limit = self.spec.max_pending_calls
        for record in calls[limit:]:
            await self._calls.finish(self._calls.refusal(record, limit))
        for record in calls[:limit]:
            self._calls.start([record])

    async def _call(self) -> None:
        await self._start()
        awaited = self._awaited()
        told = False
        while self._stop is None and (missing := self._missing(awaited)):
            if self._inbox.has_news and await self._inbox.waiting():
                break  # the model is to hear the user, and may wait again
            if not told:
                details = trapped_details(missing, self.turns)
                await self.events.commit(reports=[(EventType.TRAPPED, details)])
                told = True
            await self._woken()
            await self._report_progress()
        await self._released()
        if self._stop is not None:
            await self._calls.stop()
            return
        for record in self._unanswered:
            if record.label is None and record.result is None:
                await self._calls.finish(await self._awaited_result(record))
        await self._deliver()

    def _awaited(self) -> set[str]:
        """Ids of the calls that are waited for now."""
        unanswered = self._unanswered
        if not unanswered:  # the answer has ended
            return {r.call.id for r in self._calls.unfinished if self._is_waited_for(r)}
        futures = [_future(record) for record in unanswered if record.label is None]
        return {self._futures[future] for future in futures if future in self._futures}

    def _missing(self, awaited: set[str]) -> list[CallRecord]:
        return [record for record in self._calls.unfinished if record.call.id in awaited]

    async def _awaited_result(self, waiting: CallRecord) -> CallResult:
        """What a call of the tool that waits returns."""
        future = _future(waiting)
        call_id = self._futures.get(future)
        record = None if call_id is None else await self._work.store.call(call_id)
        if record is None:
            pending = [str(r.label) for r in self._calls.unfinished if r.label is not None]
            ending, text = CallEnding.INVALID, unknown_text(future, pending)
        elif record.result is None:
            expected_seconds = self._work.executor.expected_seconds(record.call.name)
            ending, text = CallEnding.SUCCEEDED, pending_text(future, expected_seconds)
        else:
            ending, text = CallEnding.SUCCEEDED, _result_text(record)
        return CallResult(waiting.call.id, waiting.call.name, ending, text, seconds=0)

    async def _deliver(self) -> bool:
        """Answer the latest turn's calls, show what has arrived, and resume."""
        messages = await self._inbox.waiting()
        unanswered, finished = self._unanswered, self._calls.finished
        if not unanswered and not finished and not messages:
            return False
        shown = {self._futures.get(_future(r)) for r in unanswered if r.label is None}
        others = [r for r in finished if r not in unanswered and r.call.id not in shown]
        chat = [
            *[said_by_tool(record.call, self._answer(record)) for record in unanswered],
            *[said_by_tool(record.call, _result_text(record)) for record in others],
        ]
        read = [read_details(record) for record in finished if record.label is not None]
        details = injected_details(read, len(self._transcript), self.turns)
        await self._resume(
            chat, finished, messages, [(EventType.INJECTED, details)] if read else []
        )
        return True

    def _answer(self, record: CallRecord) -> str:
        if record.label is None:
            assert record.result is not None
            return record.result.content
        if record.result is not None:
            return _result_text(record)
        return pending_text(record.label, self._work.executor.expected_seconds(record.call.name))


def futures_prompt(
    dialogue: Dialogue,
    messages: Sequence[Message],
    definitions: Sequence[dict[str, JsonValue]],
) -> list[int]:
    """Tokens of a conversation whose model is told of futures.

    Raises:
        ValueError: the chat template refuses the messages.
    """
    told: Message = {"role": "system", "content": SYSTEM_PROMPT}
    rest = list(messages)
    if rest and rest[0].get("role") == "system":
        told["content"] = _joined(SYSTEM_PROMPT, rest.pop(0).get("content"))
    return dialogue.prompt([told, *rest], [*definitions, await_tool()])


def _joined(first: str, content: JsonValue) -> JsonValue:
    """A message's content, with a paragraph before it."""
    if isinstance(content, list):
        return [{"type": "text", "text": f"{first}\n\n"}, *content]
    return f"{first}\n\n{content}"


def _future(record: CallRecord) -> str:
    """What a call of the tool that waits waits for; empty if it does not say."""
    try:
        arguments = read_json(record.call.arguments_text)
    except UnsoundJson:
        return ""
    future = arguments.get("future") if isinstance(arguments, dict) else None
    return future if isinstance(future, str) else ""


def _result_text(record: CallRecord) -> str:
    """A result as the model reads it."""
    assert record.result is not None
    future, content = str(record.label), record.result.content
    if record.result.ending is CallEnding.SUCCEEDED:
        return ready_text(future, content)
    error = json.loads(content)["error"]
    return failed_text(future, str(error["type"]), str(error["message"]))
