"""Random tasks for the demo's tools, by category."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from caesura.bundled.demo_tools import (
    CHAIN_END,
    CHAIN_STARTS,
    TOOL_BY_NAME,
    TOOLS,
    DemoTool,
    Kind,
    draw_value,
)
from caesura.lab.train import demo_phrases as phrases
from caesura.lab.train.held_out import is_held_out, side
from caesura.lab.train.tasks import Failure, Outcome, PlannedCall, Task

CATEGORIES = (
    "single",
    "parallel",
    "same_tool",
    "same_value",
    "mixed",
    "chain",
    "chain_single",
    "error",
)
"""What the demo model is trained for."""
FURTHER_CATEGORIES = ("steering", "follow_up")
"""What can be drawn as well: a wish that the user adds meanwhile, and a second question."""


@dataclass(frozen=True, slots=True)
class _Clause:
    """A part of a question: what is wanted, and the calls that it needs."""

    wanted: tuple[str, ...]
    calls: tuple[PlannedCall, ...]


@dataclass(slots=True)
class TaskSource:
    """Draws tasks.

    Attributes:
        source: of randomness.
        held_out: draw values, templates and failures that training never sees.
        repeats: how often a value is made to repeat a symbol.
    """

    source: random.Random
    held_out: bool = False
    repeats: float = 0.0

    def draw(self, category: str) -> Task:
        """A task of this category."""
        match category:
            case "single":
                clauses = [self._single(self._tool())]
            case "parallel":
                clauses = [self._single(tool) for tool in self._different_tools()]
            case "same_tool":
                clauses = [self._same_tool(self._tool(), self.source.choice((2, 3, 3)))]
            case "same_value":
                clauses = [self._same_value()]
            case "mixed":
                clauses = self._mixed()
            case "chain":
                clauses = [self._chain()]
            case "chain_single":
                clauses = self._chain_and_single()
            case "error":
                return self._with_failure(self.draw(self._base_of_error()))
            case "steering":
                return self._with_steering(self.draw(self._base_of_steering()))
            case "follow_up":
                return self._follow_up()
            case _:
                known = ", ".join((*CATEGORIES, *FURTHER_CATEGORIES))
                raise ValueError(f"there is no category {category!r}; there are {known}")
        calls = _in_order(clauses)
        return Task(category, self._question(clauses), calls, phrases.PROSE[calls[0].tool])

    def _tool(self) -> DemoTool:
        return self.source.choice(TOOLS)

    def _value(self, kind: Kind) -> str:
        return draw_value(kind, self.source, side(self.held_out), self.repeats)

    def _call(self, tool: DemoTool, argument: str, parent: int | None = None) -> PlannedCall:
        return PlannedCall(
            tool=tool.name,
            parameter=tool.parameter,
            argument=argument,
            expected_seconds=tool.expected_seconds,
            outcomes=(self._value(tool.returns),),
            parent=parent,
        )

    def _wanted(self, tool: DemoTool) -> str:
        return self.source.choice(phrases.WANTED[tool.name])

    def _single(self, tool: DemoTool) -> _Clause:
        call = self._call(tool, self._value(tool.takes))
        return _Clause((f"{self._wanted(tool)} {call.argument}",), (call,))

    def _different_tools(self) -> list[DemoTool]:
        """Two or three tools that cannot be taken for a chain."""
        count = self.source.choice((2, 3, 3))
        while True:
            tools = self.source.sample(TOOLS, count)
            names = {tool.name for tool in tools}
            if CHAIN_END not in names or names.isdisjoint(CHAIN_STARTS):
                return tools

    def _same_tool(self, tool: DemoTool, count: int) -> _Clause:
        values: list[str] = []
        while len(values) < count:
            value = self._value(tool.takes)
            if value not in values:
                values.append(value)
        calls = tuple(self._call(tool, value) for value in values)
        if self.source.random() < 0.3:
            return _Clause(tuple(f"{self._wanted(tool)} {value}" for value in values), calls)
        listed = ", ".join(values[:-1]) + " and " + values[-1]
        return _Clause((f"{self._wanted(tool)} {listed}",), calls)

    def _same_value(self) -> _Clause:
        """Two things about one item or order: "the price and the stock of K4821"."""
        kind = self.source.choice((Kind.ITEM, Kind.ORDER))
        tools = self.source.sample([tool for tool in TOOLS if tool.takes is kind], 2)
        value = self._value(kind)
        calls = [self._call(tool, value) for tool in tools]
        calls.sort(key=lambda call: -call.expected_seconds)
        endings = " of", " of order"
        first = next(
            text.removesuffix(" order").removesuffix(" of")
            for text in iter(lambda: self._wanted(tools[0]), "")
            if text.endswith(endings)
        )
        second = next(
            text for text in iter(lambda: self._wanted(tools[1]), "") if text.endswith(endings)
        )
        return _Clause((f"{first} and {second} {value}",), tuple(calls))

    def _mixed(self) -> list[_Clause]:
        """Two calls of one tool and one of another."""
        tools = self._different_tools()
        clauses = [self._same_tool(tools[0], 2), self._single(tools[1])]
        self.source.shuffle(clauses)
        return clauses

    def _follow_up(self) -> Task:
        """The second question of a conversation."""
        kinds = ("single", "single", "parallel", "same_tool", "chain")
        earlier = self.draw(self.source.choice(kinds))
        task = self.draw(self.source.choice(kinds))
        only_text = self.source.random() < 0.3
        return replace(task, category="follow_up", earlier=earlier, only_text=only_text)

    def _chain(self) -> _Clause:
        start = TOOL_BY_NAME[self.source.choice(CHAIN_STARTS)]
        first = self._call(start, self._value(start.takes))
        result = first.outcomes[0]
        assert isinstance(result, str)
        end = TOOL_BY_NAME[CHAIN_END]
        wanted = f"{self._wanted(end)} {self._wanted(start)} {first.argument}"
        return _Clause((wanted,), (first, self._call(end, result, parent=0)))

    def _chain_and_single(self) -> list[_Clause]:
        """A chain and a call of a tool that the chain does not use, in any order."""
        chain = self._chain()
        used = {*CHAIN_STARTS, CHAIN_END}
        single = self._single(self.source.choice([t for t in TOOLS if t.name not in used]))
        clauses = [chain, single]
        self.source.shuffle(clauses)
        return clauses

    def _question(self, clauses: list[_Clause]) -> str:
        parts = [part for clause in clauses for part in clause.wanted]
        while True:
            opener = self.source.choice(phrases.OPENERS)
            closer = self.source.choice(phrases.CLOSERS)
            if self.held_out and self.source.random() < 0.5:
                opener = self.source.choice(phrases.HELD_OUT_OPENERS)
            elif self.held_out and self.source.random() < 0.5:
                closer = self.source.choice(phrases.HELD_OUT_CLOSERS)
            joiners = [", "] * (len(parts) - 2) + [self.source.choice(phrases.JOINERS)]
            if len(parts) > 2 and self.source.random() < 0.3:
                joiners[0] = joiners[-1]
            template = "|".join([*opener, closer, *joiners, *(_frame_of(p) for p in parts)])
            new = opener in phrases.HELD_OUT_OPENERS or closer in phrases.HELD_OUT_CLOSERS
            if self.held_out == (new or is_held_out(template, 5)):
                break
        text = parts[0]
        for joiner, part in zip(joiners, parts[1:], strict=False):
            text += joiner + part
        if not opener[0]:
            text = text[0].upper() + text[1:]
        return opener[0] + text + opener[1] + closer

    def _base_of_error(self) -> str:
        return self.source.choice(("single", "parallel", "same_tool", "chain"))

    def _with_failure(self, task: Task) -> Task:
        """One call fails, and its retry sometimes, too."""
        index = self.source.randrange(len(task.calls))
        call = task.calls[index]
        fails_twice = self.source.random() < 0.3
        outcomes: tuple[Outcome, ...] = (self._failure(), *call.outcomes)
        if fails_twice:
            outcomes = (self._failure(), self._failure())
        calls = list(task.calls)
        calls[index] = replace(call, outcomes=outcomes)
        if fails_twice:
            calls = [c for c in calls if c.parent != index]
        return replace(task, category="error", calls=tuple(calls))

    def _failure(self) -> Failure:
        messages: Sequence[str] = phrases.FAILURE_MESSAGES
        if self.held_out:
            messages = phrases.HELD_OUT_FAILURE_MESSAGES
        word = "".join(self.source.choices("abcdefghijklmnopqrstuvwxyz_", k=5)).capitalize()
        message = self.source.choice(messages).format(
            n=self.source.randrange(1000), c=self._value(Kind.ITEM), w=word
        )
        return Failure(self.source.choice(phrases.FAILURE_TYPES), message)

    def _base_of_steering(self) -> str:
        return self.source.choice(("single", "single", "parallel", "same_tool", "chain"))

    def _with_steering(self, task: Task) -> Task:
        """The user adds a wish. Its tool is not part of a chain with what was asked."""
        used = {call.tool for call in task.calls}
        if CHAIN_END in used or not used.isdisjoint(CHAIN_STARTS):
            tools = [t for t in TOOLS if t.name not in (*CHAIN_STARTS, CHAIN_END)]
        else:
            tools = list(TOOLS)
        if task.category != "same_tool" or len(task.calls) > 2:
            tools = [tool for tool in tools if tool.name not in used] or tools
        clause = self._single(self.source.choice(tools))
        before, after = self.source.choice(phrases.STEERING)
        added = replace(clause.calls[0], steering=True)
        return replace(
            task,
            category="steering",
            calls=(*task.calls, added),
            steering=before + clause.wanted[0] + after,
        )


def _frame_of(part: str) -> str:
    """A part of a question without its values."""
    return " ".join(word for word in part.split() if word.rstrip(",").islower())


def _in_order(clauses: list[_Clause]) -> tuple[PlannedCall, ...]:
    """All calls, longest first; those of a chain behind their parents."""
    chains = sorted(
        (clause.calls for clause in clauses), key=lambda calls: -calls[0].expected_seconds
    )
    calls: list[PlannedCall] = []
    for chain in chains:
        start = len(calls)
        calls += [
            call if call.parent is None else replace(call, parent=start + call.parent)
            for call in chain
        ]
    return tuple(calls)
