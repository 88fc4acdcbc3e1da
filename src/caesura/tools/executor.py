"""Runs tool calls: checks, cache, approval, slots, time limits, retries."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from prometheus_client import REGISTRY, CollectorRegistry
from pydantic import JsonValue

from caesura.cml import error_content
from caesura.cml.strict_json import UnsoundJson, read_json
from caesura.tools.cache import Outcome, ResultCache, cache_key
from caesura.tools.call import (
    Answer,
    CallEnding,
    CallJournal,
    CallResult,
    JournalUnavailable,
    Question,
    QuestionKind,
    ToolCall,
)
from caesura.tools.context import CallContext, refused
from caesura.tools.deadline import Deadline
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.environment import redacted
from caesura.tools.failure import AttemptFailed, InvalidArguments, ToolRaised
from caesura.tools.foreign_log import log_raised
from caesura.tools.metrics import tool_metrics
from caesura.tools.result_text import clean_text, cut_text
from caesura.tools.retry import Timing, retry_seconds
from caesura.tools.schema import ArgumentSchema
from caesura.tools.toolbox import Toolbox

_LOG = logging.getLogger(__name__)
_LONGEST_ARGUMENTS = 2**20
_NAMES_SHOWN = 20
_LONGEST_ERROR = 4096
_GRACE_SECONDS = 5.0
_UNCERTAIN = "; it may or may not have had its effects: check before you call it again"
# One label for names that a model made up, which would otherwise fill the metrics.
_UNKNOWN = "(unknown)"

Arguments = dict[str, JsonValue]
AtEndOfAnswer = Literal["wait", "finish", "cancel"]


class Executor:
    """Runs the calls of all sessions on the tools of a toolbox.

    Args:
        toolbox: an open toolbox.
        timing: where time and chance come from.
        registry: where the metrics go.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        *,
        timing: Timing | None = None,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._toolbox = toolbox
        self._timing = timing or Timing()
        self._metrics = tool_metrics(registry)
        self._cache = ResultCache(self._timing.now)
        self._ending: set[asyncio.Task[str]] = set()

    def definitions(
        self, names: Iterable[str] | None = None, *, awaited: bool = False
    ) -> list[dict[str, JsonValue]]:
        """Tools in OpenAI's format, all by default.

        Args:
            names: which.
            awaited: those that their MCP server may still bring are given by their names alone,
                and their calls wait for them. For sessions that had them before a restart.

        Raises:
            KeyError: there is no tool of such a name.
        """
        wanted = list(self._toolbox.endpoints if names is None else names)
        if awaited:
            self._toolbox.expect(wanted)
        return [self._definition(name, awaited).as_openai() for name in wanted]

    def _definition(self, name: str, awaited: bool) -> Definition:
        if awaited and name not in self._toolbox.endpoints and self._toolbox.may_bring(name):
            return Definition(name, "", ArgumentSchema({}))
        return self._toolbox.endpoints[name].definition

    def expect(self, names: Iterable[str]) -> None:
        """Calls of these tools wait, if their MCP server has yet to bring them."""
        self._toolbox.expect(names)

    def absence(self, name: str) -> str:
        """Why there is no tool of a name."""
        if self._toolbox.may_bring(name):
            return f"the MCP server of the tool {name[:64]!r} is not connected; try again later"
        return f"there is no tool {name[:64]!r}"

    def names(self) -> list[str]:
        """All tools that there are."""
        return list(self._toolbox.endpoints)

    def is_idempotent(self, name: str) -> bool:
        """Whether a call of the tool may be repeated after a crash; False if there is none."""
        endpoint = self._toolbox.endpoints.get(name)
        return endpoint is not None and endpoint.is_idempotent

    def expected_seconds(self, name: str) -> float | None:
        """How long a call of the tool takes, if its settings say so."""
        endpoint = self._toolbox.endpoints.get(name)
        return endpoint.settings.expected_seconds if endpoint is not None else None

    def declared_seconds(self) -> dict[str, float]:
        """How long calls take, of all tools whose settings say so."""
        expected = {name: self.expected_seconds(name) for name in self._toolbox.endpoints}
        return {name: seconds for name, seconds in expected.items() if seconds is not None}

    def at_end(self, name: str) -> AtEndOfAnswer:
        """What becomes of a call of the tool when the model ends its answer meanwhile."""
        endpoint = self._toolbox.endpoints.get(name)
        return endpoint.settings.at_end if endpoint is not None else "cancel"

    def interrupted(self, call: ToolCall) -> CallResult:
        """The result of a call that was under way when the server died."""
        message = (
            "The server was restarted while this call was running. It may or may not have had "
            "its effects; check before you call it again."
        )
        return self._unfinished(call, CallEnding.INTERRUPTED, message)

    def unknown(self, call: ToolCall, names: Iterable[str]) -> CallResult:
        """The result of a call of a tool that is not among those that may be called."""
        outcome = self._failed(_unknown_tool(call.name, names), 0)
        return CallResult(call.id, call.name, outcome.ending, outcome.content, seconds=0)

    def cancelled(self, call: ToolCall) -> CallResult:
        """The result of a call whose `execute` was cancelled."""
        return self._unfinished(call, CallEnding.CANCELLED, "The call was cancelled.")

    async def execute(self, call: ToolCall, journal: CallJournal) -> CallResult:
        """Run a call. Failures are results.

        Raises:
            JournalUnavailable: the call has no result, since what happens could not be written.
        """
        started_seconds = self._timing.now()
        endpoint = await self._toolbox.endpoint(call.name)
        label = call.name if endpoint is not None else _UNKNOWN
        try:
            outcome = await self._outcome(call, endpoint, journal)
        except AttemptFailed as failure:
            outcome = self._failed(failure, 0)
        except asyncio.CancelledError:
            self._metrics.calls.labels(label, CallEnding.CANCELLED).inc()
            raise
        except JournalUnavailable:
            raise
        except Exception as error:
            self._log(f"call {call.id} of {call.name} failed inside the server", error)
            outcome = self._failed(AttemptFailed(f"internal error ({type(error).__name__})"), 0)
        seconds = self._timing.now() - started_seconds
        self._metrics.calls.labels(label, outcome.ending).inc()
        self._metrics.seconds.labels(label).observe(seconds)
        if outcome.cached:
            self._metrics.cache_hits.labels(label).inc()
        return CallResult(
            call_id=call.id,
            name=call.name,
            ending=outcome.ending,
            content=outcome.content,
            seconds=seconds,
            attempts=outcome.attempts,
            cached=outcome.cached,
            cut=outcome.cut,
        )

    async def execute_all(
        self, calls: Sequence[ToolCall], journal: CallJournal
    ) -> AsyncGenerator[CallResult, None]:
        """Run calls in parallel; results in the order in which they come.

        Whoever stops early should close the iterator: what still runs is then cancelled.
        """
        if len(calls) > 1:
            for call in calls:
                known = call.name in self._toolbox.endpoints
                self._metrics.bundled.labels(call.name if known else _UNKNOWN).inc()
        tasks = [asyncio.create_task(self.execute(call, journal)) for call in calls]
        try:
            for result in asyncio.as_completed(tasks):
                yield await result
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _outcome(
        self, call: ToolCall, endpoint: Endpoint | None, journal: CallJournal
    ) -> Outcome:
        if endpoint is None and self._toolbox.may_bring(call.name):
            raise AttemptFailed(self.absence(call.name), transient=True)
        if endpoint is None:
            raise _unknown_tool(call.name, self._toolbox.endpoints)
        arguments = parse_arguments(call.arguments_text)
        endpoint.check(arguments)
        run = partial(self._approved, call, endpoint, arguments, journal)
        keep_seconds = endpoint.settings.cache_seconds
        if not keep_seconds or endpoint.asks_human:
            return await run()
        owner = None if endpoint.settings.cache_shared else journal.owner
        key = cache_key(owner, call.name, arguments)
        return await self._cache.outcome(key, keep_seconds, run)

    async def _approved(
        self, call: ToolCall, endpoint: Endpoint, arguments: Arguments, journal: CallJournal
    ) -> Outcome:
        if endpoint.settings.approve:
            question = Question(
                key=f"{call.id}:approval",
                session_id=call.session_id,
                call_id=call.id,
                kind=QuestionKind.APPROVAL,
                text=f"Run {call.name}?",
                tool=call.name,
                arguments=arguments,
                by_operator=endpoint.settings.approve == "operator",
            )
            answer = await self._ask(endpoint, journal, question)
            if not answer.accepted:
                raise refused("A human refused this call", answer)
        return await self._attempts(call, endpoint, arguments, journal)

    async def _attempts(
        self, call: ToolCall, endpoint: Endpoint, arguments: Arguments, journal: CallJournal
    ) -> Outcome:
        attempt = 1
        while True:
            try:
                text = await self._attempt(call, endpoint, arguments, journal, attempt)
            except AttemptFailed as failure:
                if isinstance(failure, ToolRaised) and failure.__cause__ is not None:
                    self._log(f"call {call.id} of {call.name} failed", failure.__cause__)
                wait_seconds = retry_seconds(
                    endpoint.settings, failure, attempt, self._timing.chance()
                )
                if wait_seconds is None:
                    may_have_run = failure.is_uncertain and not endpoint.is_idempotent
                    return self._failed(failure, attempt, _UNCERTAIN if may_have_run else "")
            else:
                text = redacted(clean_text(text), self._toolbox.credentials)
                content, cut = cut_text(text, endpoint.settings.max_result_bytes)
                return Outcome(CallEnding.SUCCEEDED, content, attempt, cut=cut)
            self._metrics.retries.labels(call.name).inc()
            await self._timing.sleep(wait_seconds)
            attempt += 1

    async def _attempt(
        self,
        call: ToolCall,
        endpoint: Endpoint,
        arguments: Arguments,
        journal: CallJournal,
        attempt: int,
    ) -> str:
        async with AsyncExitStack() as slots:
            for slot in endpoint.slots:
                await slots.enter_async_context(slot)
            if endpoint.has_own_effects:
                await journal.dispatching(call, attempt)
            limits = endpoint.timeout_seconds, endpoint.longest_seconds
            async with Deadline(*limits) as deadline:
                context = CallContext(
                    call,
                    arguments,
                    attempt,
                    journal,
                    ask=partial(self._ask, endpoint, journal),
                    execute_step=partial(self._execute_step, call.name),
                    deadline=deadline,
                )
                return await self._given_up(call, endpoint.call(arguments, context))

    async def _given_up(self, call: ToolCall, work: Coroutine[Any, Any, str]) -> str:
        """The result of an attempt. If it is cancelled it has a moment to end; then it is left
        alone, so that a tool that goes on regardless keeps neither its slot nor its session."""
        task = asyncio.create_task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                current = asyncio.current_task()
                if current is not None and not current.cancelling():
                    raise AttemptFailed("the tool cancelled itself") from None
                raise
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ended)
            _, left = await asyncio.wait({task}, timeout=_GRACE_SECONDS)
            if left:
                self._metrics.abandoned.labels(call.name).inc()
                _LOG.warning("call %s of %s goes on though it was cancelled", call.id, call.name)
            raise

    def _ended(self, task: asyncio.Task[str]) -> None:
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for it any more

    async def _execute_step(
        self, sequence: str, call: ToolCall, journal: CallJournal
    ) -> CallResult:
        self._metrics.fused_steps.labels(sequence).inc()
        return await self.execute(call, journal)

    async def _ask(self, endpoint: Endpoint, journal: CallJournal, question: Question) -> Answer:
        with self._metrics.waiting_for_human.track_inprogress():
            return await journal.ask(replace(question, provider=endpoint.provider))

    def _log(self, message: str, error: BaseException) -> None:
        log_raised(_LOG, message, error, self._toolbox.secrets)

    def _failed(self, failure: AttemptFailed, attempts: int, note: str = "") -> Outcome:
        message, _ = cut_text(
            redacted(clean_text(str(failure)), self._toolbox.secrets), _LONGEST_ERROR
        )
        content = error_content(failure.error_type, message + note)
        return Outcome(failure.ending, content, attempts)

    def _unfinished(self, call: ToolCall, ending: CallEnding, message: str) -> CallResult:
        return CallResult(call.id, call.name, ending, error_content(ending, message), seconds=0)


def _unknown_tool(name: str, names: Iterable[str]) -> AttemptFailed:
    known = sorted(names)
    shown = ", ".join(known[:_NAMES_SHOWN]) + (", ..." if len(known) > _NAMES_SHOWN else "")
    return AttemptFailed(
        f"there is no tool {name[:64]!r}; the tools are: {shown or 'none'}",
        ending=CallEnding.UNKNOWN_TOOL,
    )


def parse_arguments(text: str) -> Arguments:
    """The arguments of a call from the JSON that a model wrote, read as in CML.

    Raises:
        InvalidArguments: it is not a JSON object, or not sound.
    """
    if len(text) > _LONGEST_ARGUMENTS:
        raise InvalidArguments(f"the arguments are longer than {_LONGEST_ARGUMENTS} characters")
    try:
        arguments = read_json(text.strip() or "{}")
    except UnsoundJson as error:
        raise InvalidArguments(f"the arguments are not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise InvalidArguments("the arguments must be a JSON object")
    return arguments
