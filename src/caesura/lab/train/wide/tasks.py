"""What a task over JSON-schema tools asks: a graph of calls, and what each of them gives."""

from dataclasses import dataclass

from caesura.cml.frames import JsonObject, JsonValue, json_text
from caesura.lab.train.tasks import Failure, Outcome
from caesura.lab.train.wide.tools import SchemaTool
from caesura.lab.train.wide.values import told


@dataclass(frozen=True, slots=True)
class Input:
    """An argument that another call gives.

    Attributes:
        parameter: name of the argument.
        parent: index of the call.
        member: which member of its result; None for all of it.
    """

    parameter: str
    parent: int
    member: str | None = None


@dataclass(frozen=True, slots=True)
class GraphCall:
    """A call that the task needs.

    Attributes:
        tool: name of the tool.
        arguments: all of them, also those that come from other calls.
        expected_seconds: what the prompt says that it takes; 0 if nothing.
        result: what it gives in the end.
        failures: what the attempts before give. There are at most two, and the second is final.
        inputs: arguments that come from other calls.
        is_asked: its result is to be told.
        steering: a message of the user asks for it, while the task is under way.
        subject: the user's words for what it gives.
    """

    tool: str
    arguments: JsonObject
    expected_seconds: float
    result: JsonValue
    failures: tuple[Failure, ...] = ()
    inputs: tuple[Input, ...] = ()
    is_asked: bool = True
    steering: bool = False
    subject: str = ""

    @property
    def succeeds(self) -> bool:
        """Whether the last attempt gives a result."""
        return len(self.failures) < 2

    @property
    def parents(self) -> frozenset[int]:
        """The calls that give its arguments."""
        return frozenset(given.parent for given in self.inputs)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What the attempts give, in order."""
        if not self.succeeds:
            return self.failures
        text = self.result if isinstance(self.result, str) else json_text(self.result)
        return (*self.failures, text)

    @property
    def sentence(self) -> str:
        """What the user is to be told of it."""
        last = self.outcomes[-1]
        subject = self.subject[:1].upper() + self.subject[1:]
        if isinstance(last, Failure):
            return f"{subject}: failed, {last.type}."
        return f"{subject}: {told(self.result)}."


@dataclass(frozen=True, slots=True)
class GraphTask:
    """A request of the user.

    Attributes:
        category: what kind of task it is.
        question: the user's message.
        calls: each behind its parents; also those that cannot be made, as one before fails.
        tools: what the prompt lists, the longest first.
        prose: a sentence for the time of waiting; it may be broken off.
        work: a text that the user asks for, which needs no call; it is completed.
        reply: the answer, if no call is needed.
        steering: a message that the user sends while the task is under way.
        earlier: the task of the turn before, in the same conversation.
    """

    category: str
    question: str
    calls: tuple[GraphCall, ...]
    tools: tuple[SchemaTool, ...]
    prose: str = ""
    work: str = ""
    reply: str = ""
    steering: str | None = None
    earlier: "GraphTask | None" = None

    def is_possible(self, index: int) -> bool:
        """Whether all that a call needs succeeds."""
        return all(
            self.calls[parent].succeeds and self.is_possible(parent)
            for parent in self.calls[index].parents
        )

    def is_told(self, index: int) -> bool:
        """Whether the user is told what became of a call: what was asked for, and failures."""
        call = self.calls[index]
        return self.is_possible(index) and (call.is_asked or not call.succeeds)
