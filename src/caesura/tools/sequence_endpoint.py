"""Several calls as one."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from pydantic import JsonValue

from caesura.tools.call import Answer, CallEnding, CallResult, Question, ToolCall
from caesura.tools.context import CallContext
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.failure import AttemptFailed
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import SequenceStep, SequenceTool
from caesura.tools.template import MissingValue, Reference, fill_json, references_in

_STEPS = "steps"


class SequenceError(ValueError):
    """A step that cannot work.

    Attributes:
        step: its index.
    """

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


class SequenceEndpoint(Endpoint):
    """Runs its steps one after the other, each like a call of its own.

    A step that does not succeed ends the sequence.

    Args:
        name: the tool's name.
        settings: its settings.
        endpoints: all tools, by name.
        may_come: whether a tool that is not there may still come; the step is checked then.

    Raises:
        SequenceError: a step cannot work.
        ValueError: its parameters are no JSON schema, or it says that it is idempotent and
            a step is not.
    """

    def __init__(
        self,
        name: str,
        settings: SequenceTool,
        endpoints: Mapping[str, Endpoint],
        may_come: Callable[[str], bool],
    ) -> None:
        schema = ArgumentSchema.closed(settings.parameters)
        super().__init__(Definition(name, settings.description or "", schema), settings)
        self._steps = settings.steps
        self._gives_all = settings.result == "all"
        self._endpoints = endpoints
        is_complete = True
        for index, step in enumerate(self._steps):
            if step.tool in endpoints or not may_come(step.tool):
                self._check_step(index, step)
            else:
                is_complete = False
        if settings.idempotent and is_complete and not self.is_idempotent:
            raise ValueError("idempotent = true, but not every step is; remove it, or mark them")

    @property
    def provider(self) -> str:
        """The tools of its steps."""
        return f"sequence of {', '.join(step.tool for step in self._steps)}"

    @property
    def is_idempotent(self) -> bool:
        """Whether all steps are."""
        return all(
            step.tool in self._endpoints and self._endpoints[step.tool].is_idempotent
            for step in self._steps
        )

    @property
    def longest_seconds(self) -> float:
        """The limit on all steps: progress of one of them does not extend it."""
        return self.timeout_seconds

    @property
    def has_own_effects(self) -> bool:
        """False: what has effects are the steps, and the first that has writes it down."""
        return False

    @property
    def asks_human(self) -> bool:
        """Whether it or any step does."""
        return super().asks_human or any(
            step.tool in self._endpoints and self._endpoints[step.tool].asks_human
            for step in self._steps
        )

    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        """Run the steps."""
        journal = _StepJournal(context, len(self._steps))
        values: list[JsonValue] = []
        last = ""
        for index, step in enumerate(self._steps):
            journal.index = index
            result = await context.execute_step(
                self._step_call(context.call, index, step, {**arguments, _STEPS: values}), journal
            )
            if result.ending is not CallEnding.SUCCEEDED:
                raise _step_failure(index, result)
            last = result.content
            values.append(_parsed(last))
        return json.dumps(values, ensure_ascii=False) if self._gives_all else last

    def _step_call(
        self, call: ToolCall, index: int, step: SequenceStep, scope: Mapping[str, JsonValue]
    ) -> ToolCall:
        known = {
            key: value
            for key, value in step.arguments.items()
            if not self._lacks_optional(value, scope)
        }
        try:
            arguments = fill_json(known, scope)
        except MissingValue as error:
            raise AttemptFailed(f"step {index} ({step.tool}): {error}") from None
        text = json.dumps(arguments, ensure_ascii=False)
        return ToolCall(f"{call.id}/{index}", step.tool, text, call.session_id)

    def _lacks_optional(self, value: JsonValue, scope: Mapping[str, JsonValue]) -> bool:
        return any(reference.name not in scope for reference in references_in(value))

    def _check_step(self, index: int, step: SequenceStep) -> None:
        endpoint = self._endpoints.get(step.tool)
        if endpoint is None:
            raise SequenceError(
                index, f"there is no tool {step.tool!r}; check its name, or add [tools.{step.tool}]"
            )
        if self.settings.cache_seconds and endpoint.asks_human:
            raise SequenceError(
                index,
                f"{step.tool} is put before a human, which a cached result is not; remove the "
                "step, or the sequence's cache_seconds",
            )
        schema = endpoint.definition.schema
        if missing := schema.required - step.arguments.keys():
            raise SequenceError(index, f"{step.tool} needs {_listed(missing)}; add to arguments")
        is_closed = schema.document.get("additionalProperties") is False
        if is_closed and (unknown := step.arguments.keys() - schema.properties):
            raise SequenceError(index, f"{step.tool} does not take {_listed(unknown)}; remove it")
        try:
            references = [*references_in(step.arguments)]
        except ValueError as error:
            raise SequenceError(index, str(error)) from None
        for problem in self._problems(index, references):
            raise SequenceError(index, problem)

    def _problems(self, index: int, references: Iterable[Reference]) -> Iterator[str]:
        for reference in references:
            if reference.name != _STEPS:
                if reference.name not in self.definition.schema.properties:
                    yield (
                        f"{{{reference.text}}} is no argument; add it to parameters.properties, "
                        "or write {steps[0]...}"
                    )
            elif len(reference.path) < 2 or not isinstance(reference.path[1], int):
                yield f"{{{reference.text}}} does not say which step; write {{steps[0]}}"
            elif reference.path[1] >= index:
                yield f"{{{reference.text}}} is not an earlier step; the first is steps[0]"


class _StepJournal:
    """Passes on what steps tell as being told by the whole call.

    Attributes:
        index: the step that runs.
        owner: see `CallJournal`.
    """

    def __init__(self, context: CallContext, steps: int) -> None:
        self.index = 0
        self.owner = context.journal.owner
        self._context = context
        self._steps = steps
        self._is_dispatched = False

    async def dispatching(self, call: ToolCall, attempt: int) -> None:
        """Write down the whole call before the first step that may have effects."""
        if not self._is_dispatched:
            await self._context.journal.dispatching(self._context.call, self._context.attempt)
            self._is_dispatched = True

    async def ask(self, question: Question) -> Answer:
        """Ask in the name of the whole call."""
        with self._context.waiting():
            return await self._context.journal.ask(replace(question, call_id=self._context.call.id))

    def progress(
        self,
        call: ToolCall,
        fraction: float | None,
        remaining_seconds: float | None,
        message: str | None,
    ) -> None:
        """Report how far the whole call is: each step counts the same."""
        self._context.progress((self.index + (fraction or 0.0)) / self._steps, message)


def sequence_cycle(sequences: Mapping[str, SequenceTool]) -> list[str] | None:
    """Names of sequences that run each other in a circle, the first one again at the end."""

    def visit(name: str, above: list[str]) -> list[str] | None:
        if name in above:
            return [*above[above.index(name) :], name]
        for step in sequences[name].steps:
            if step.tool in sequences and (cycle := visit(step.tool, [*above, name])):
                return cycle
        return None

    return next((cycle for name in sequences if (cycle := visit(name, []))), None)


def _step_failure(index: int, result: CallResult) -> AttemptFailed:
    try:
        message = json.loads(result.content)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = result.content
    return AttemptFailed(f"step {index} ({result.name}): {message}", ending=result.ending)


def _parsed(content: str) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(content)
    except (ValueError, RecursionError):
        return content
    return parsed


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
