"""What a training task asks: a dependency graph of calls, and what each of them gives."""

from dataclasses import dataclass
from typing import Protocol

from caesura.cml.frames import JsonObject


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that fails.

    Attributes:
        type: a word for the model.
        message: what happened.
    """

    type: str
    message: str


Outcome = str | Failure


class Planned(Protocol):
    """What a simulated world must know of a call that a task needs."""

    @property
    def tool(self) -> str:
        """Name of the tool."""
        ...

    @property
    def arguments(self) -> JsonObject:
        """All arguments, by name."""
        ...

    @property
    def expected_seconds(self) -> float:
        """How long it is said to take; 0 if nobody knows."""
        ...

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What the attempts give, in order."""
        ...


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call that the task needs.

    Attributes:
        tool: name of the tool.
        parameter: name of its one argument.
        argument: value of the argument; of a chained call the parent's result.
        expected_seconds: what the tool declares to take.
        outcomes: what the attempts give, in order. After the last failure the model gives up.
        parent: index of the call whose result is the argument; None if the task gives it.
        steering: whether a message of the user asks for it, while the task is under way.
    """

    tool: str
    parameter: str
    argument: str
    expected_seconds: float
    outcomes: tuple[Outcome, ...]
    parent: int | None = None
    steering: bool = False

    @property
    def arguments(self) -> JsonObject:
        """All that the call gives to the tool."""
        return {self.parameter: self.argument}

    @property
    def succeeds(self) -> bool:
        """Whether the last attempt gives a result."""
        return isinstance(self.outcomes[-1], str)


@dataclass(frozen=True, slots=True)
class Task:
    """A request of the user.

    Attributes:
        category: what kind of task it is.
        question: the user's message.
        calls: in the order in which they are to be issued, as far as they are independent.
        prose: what the model writes while it waits for the first result.
        steering: a message that the user sends while the task is under way.
        earlier: the task of the turn before, in the same conversation.
        only_text: of the earlier turn only the text is in the conversation, no frames.
    """

    category: str
    question: str
    calls: tuple[PlannedCall, ...]
    prose: str = ""
    steering: str | None = None
    earlier: "Task | None" = None
    only_text: bool = False

    def children(self, index: int) -> tuple[int, ...]:
        """The calls that need the result of this one."""
        return tuple(i for i, call in enumerate(self.calls) if call.parent == index)
