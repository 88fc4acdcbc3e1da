"""Random tasks over JSON-schema tools, by category."""

import random
from collections.abc import Sequence
from dataclasses import replace

from caesura.cml.frames import JsonObject, JsonValue
from caesura.errors import ConfigurationError
from caesura.lab.train.tasks import Failure
from caesura.lab.train.wide import phrases
from caesura.lab.train.wide.feeding import (
    are_valid,
    assignment,
    has_child,
    member_of,
    offered,
    repeat_each_other,
)
from caesura.lab.train.wide.sources import ToolSource
from caesura.lab.train.wide.tasks import GraphCall, GraphTask, Input
from caesura.lab.train.wide.tools import SchemaTool
from caesura.lab.train.wide.values import Values
from caesura.lab.train.wide.wording import Wording

CATEGORIES = (
    "single",
    "parallel",
    "same_tool",
    "chain",
    "graph",
    "error",
    "steering",
    "meanwhile",
    "follow_up",
    "no_call",
)
_TRIES = 200
_RESULTS: tuple[JsonObject, ...] = (
    {"type": "string"},
    {"type": "integer"},
    {"type": "number"},
    {
        "type": "object",
        "properties": {"value": {"type": "number"}, "source": {"type": "string"}},
        "required": ["value", "source"],
    },
)
"""What tools give that do not say what they return."""


class NoSuchTask(ConfigurationError):
    """The tools do not admit a task of this category."""


class GraphTasks:
    """Draws tasks.

    Args:
        tools: where tools come from.
        source: of randomness.
        held_out: draw tools, values, templates and failures that training never sees.
    """

    def __init__(self, tools: ToolSource, source: random.Random, held_out: bool = False) -> None:
        self._tools = tools
        self._source = source
        self._held_out = held_out
        self._values = Values(source, held_out)

    def draw(self, category: str) -> GraphTask:
        """A task of this category.

        Raises:
            NoSuchTask: the tools do not admit one.
            ConfigurationError: no arguments can be made up for a tool; it says for which.
        """
        if category not in CATEGORIES:
            raise ValueError(f"there is no category {category!r}: {', '.join(CATEGORIES)}")
        for _ in range(_TRIES):
            tools = self._tools.draw(self._source, self._source.randint(2, 6), self._held_out)
            tools.sort(key=lambda tool: -(tool.expected_seconds or 0))
            if task := self._task(category, tuple(tools)):
                return task
        raise NoSuchTask(f"these tools admit no task of category {category}")

    def _task(self, category: str, tools: tuple[SchemaTool, ...]) -> GraphTask | None:
        """A task with these tools; None if they do not do."""
        if category == "no_call":
            return self._no_call(tools)
        base, kinds = category, ("single", "parallel", "same_tool", "chain", "graph")
        if category not in kinds:
            base = self._source.choice(kinds[:4])
        calls = self._calls(base, tools)
        if calls is None or repeat_each_other(calls) or not are_valid(calls, tools):
            return None
        if category == "error":
            calls = self._with_failure(calls)
        if category == "steering":
            added = self._calls("single", tools)
            assert added is not None
            calls = [*calls, replace(added[0], steering=True)]
            if repeat_each_other(calls):
                return None
        task = self._worded(category, calls, tools)
        if task is not None and category == "follow_up":
            earlier = self._task(self._source.choice(kinds), tools)
            task = replace(task, earlier=earlier) if earlier else None
        return task

    # Calls

    def _calls(self, shape: str, tools: Sequence[SchemaTool]) -> list[GraphCall] | None:
        source = self._source
        match shape:
            case "single":
                return [self._call(source.choice(tools))]
            case "parallel":
                if len(tools) < 2:
                    return None
                chosen = source.sample(tools, min(len(tools), source.choice((2, 2, 3, 4))))
                return [self._call(tool) for tool in chosen]
            case "same_tool":
                tool = source.choice(tools)
                if not tool.properties:
                    return None
                return [self._call(tool) for _ in range(source.choice((2, 2, 3)))]
            case "chain":
                return self._chain(tools, source.choice((2, 2, 3)))
            case _:
                return self._graph(tools)

    def _chain(self, tools: Sequence[SchemaTool], length: int) -> list[GraphCall] | None:
        calls: list[GraphCall] | None = [self._call(self._source.choice(tools))]
        while calls is not None and len(calls) < length:
            calls = self._with_child(calls, [len(calls) - 1], tools)
        return calls

    def _graph(self, tools: Sequence[SchemaTool]) -> list[GraphCall] | None:
        """A fork, a join, or a chain beside other calls."""
        first = [self._call(self._source.choice(tools))]
        match self._source.randrange(3):
            case 0:
                forked = self._with_child(first, [0], tools)
                return forked and self._with_child(forked, [0], tools)
            case 1:
                second = self._call(self._source.choice(tools))
                return self._with_child([*first, second], [0, 1], tools)
            case _:
                chain = self._with_child(first, [0], tools)
                single = self._call(self._source.choice(tools))
                return chain and [*chain, single]

    def _call(self, tool: SchemaTool) -> GraphCall:
        return GraphCall(
            tool=tool.name,
            arguments=self._arguments(tool),
            expected_seconds=tool.expected_seconds or 0,
            result=self._values.draw(tool.returns or self._source.choice(_RESULTS)),
        )

    def _arguments(self, tool: SchemaTool, wanted: Sequence[str] = ()) -> JsonObject:
        names = [
            name
            for name in tool.properties
            if name in tool.required or name in wanted or self._source.random() < 0.3
        ]
        arguments: JsonObject = {}
        for name in names:
            try:
                arguments[name] = self._values.draw(tool.properties[name], tool.parameters)
            except ConfigurationError as error:
                raise ConfigurationError(f"argument {name} of {tool.name}: {error}") from None
        return arguments

    def _with_child(
        self, calls: list[GraphCall], parents: Sequence[int], tools: Sequence[SchemaTool]
    ) -> list[GraphCall] | None:
        """One more call, that takes an argument from each of these parents."""
        used = {calls[parent].tool for parent in parents}
        for tool in self._source.sample(tools, len(tools)):
            if tool.name in used:
                continue
            results = [offered(calls, parent, tools) for parent in parents]
            fitting = assignment(tool, results)
            if fitting is None:
                continue
            arguments = self._arguments(tool, [name for name, _ in fitting])
            child = replace(self._call(tool), arguments=arguments)
            changed = list(calls)
            inputs: list[Input] = []
            for parent, (name, member) in zip(parents, fitting, strict=True):
                wanted = self._needed(calls, parent, member, arguments[name])
                arguments[name] = wanted if member is None else member_of(wanted, member)
                changed[parent] = replace(changed[parent], result=wanted, is_asked=False)
                inputs.append(Input(name, parent, member))
            return [*changed, replace(child, inputs=tuple(inputs))]
        return None

    def _needed(
        self, calls: Sequence[GraphCall], parent: int, member: str | None, value: JsonValue
    ) -> JsonValue:
        """The parent's result, so that it gives this value; as it is, if another child has it."""
        known = calls[parent].result
        if has_child(calls, parent):
            return known
        if member is None:
            return value
        assert isinstance(known, dict)
        return {**known, member: value}

    def _with_failure(self, calls: Sequence[GraphCall]) -> list[GraphCall]:
        """One call fails, and its retry sometimes, too."""
        index = self._source.randrange(len(calls))
        count = 2 if self._source.random() < 0.3 else 1
        failures = tuple(self._failure() for _ in range(count))
        changed = list(calls)
        changed[index] = replace(calls[index], failures=failures)
        return changed

    def _failure(self) -> Failure:
        messages: Sequence[str] = phrases.FAILURE_MESSAGES
        if self._held_out:
            messages = phrases.HELD_OUT_FAILURE_MESSAGES
        message = self._source.choice(messages).format(
            number=self._source.randrange(1000), word=self._values.text()
        )
        return Failure(self._source.choice(phrases.FAILURE_TYPES), message)

    # Words

    def _worded(
        self, category: str, calls: Sequence[GraphCall], tools: tuple[SchemaTool, ...]
    ) -> GraphTask | None:
        by_name = {tool.name: tool for tool in tools}
        for _ in range(_TRIES):
            wording = Wording(self._source, self._held_out)
            worded = wording.subjects(calls, by_name)
            wanted = [c.subject for c in worded if c.is_asked and not c.steering]
            self._source.shuffle(wanted)
            work, more = self._work(wording) if category == "meanwhile" else ("", "")
            question = wording.question(wanted, more)
            steering = self._steering(wording, worded)
            if wording.fits and len(set(wanted)) == len(wanted):
                topic = by_name[worded[0].tool].topic
                prose = self._source.choice(phrases.PROSE).format(topic=topic)
                return GraphTask(category, question, worded, tools, prose, work, "", steering)
        return None

    def _work(self, wording: Wording) -> tuple[str, str]:
        first = self._source.randrange(1, 40)
        last = first + self._source.randrange(4, 16)
        request = wording.pick(phrases.MEANWHILE, phrases.HELD_OUT_MEANWHILE)
        counted = ", ".join(str(number) for number in range(first, last + 1))
        return f" {counted}.", request.format(first=first, last=last)

    def _steering(self, wording: Wording, calls: Sequence[GraphCall]) -> str | None:
        for call in calls:
            if call.steering:
                form = wording.pick(phrases.STEERING, phrases.HELD_OUT_STEERING)
                return form.format(wanted=call.subject)
        return None

    def _no_call(self, tools: tuple[SchemaTool, ...]) -> GraphTask | None:
        """Small talk, or a question that no tool answers."""
        wording = Wording(self._source, self._held_out)
        if self._source.random() < 0.5:
            pairs = phrases.HELD_OUT_SMALL_TALK if self._held_out else phrases.SMALL_TALK
            question, reply = self._source.choice(pairs)
            return GraphTask("no_call", question, (), tools, reply=reply)
        if len(tools) < 2:
            return None
        missing = self._source.choice(tools)
        others = tuple(tool for tool in tools if tool is not missing)
        if any(missing.topic == tool.topic for tool in others):
            return None
        question = wording.question([f"{missing.topic} of {self._values.text()}"])
        reply = f"I have no tool for {missing.topic}."
        task = GraphTask("no_call", question, (), others, reply=reply)
        return task if wording.fits else None


def possible_categories(tools: ToolSource) -> tuple[str, ...]:
    """The categories of which these tools admit tasks.

    Raises:
        ConfigurationError: no arguments can be made up for a tool.
    """
    possible = []
    for category in CATEGORIES:
        try:
            GraphTasks(tools, random.Random(category)).draw(category)
        except NoSuchTask:
            continue
        possible.append(category)
    return tuple(possible)
