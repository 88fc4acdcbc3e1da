"""Known answers: which calls a question is answered with, and which of them need which."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from caesura.cml.frames import JsonObject
from caesura.errors import CaesuraError


class CaseError(CaesuraError):
    """Cases that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class KnownCall:
    """A call of a known answer.

    Attributes:
        name: of the tool.
        arguments: of the call.
        after: indices in the case of the calls whose results it needs, all of them earlier.
        result: what it returns; None if that does not matter.
        seconds: how long it takes, if the suite says so.
    """

    name: str
    arguments: JsonObject
    after: tuple[int, ...] = ()
    result: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A question and its known answer.

    Attributes:
        id: in the suite.
        question: what the user asks.
        tools: OpenAI tool definitions, those that are called first.
        calls: each after all that it needs.
        answer: texts that the model's answer must contain; empty if the answer is forced too.
        is_forced: whether the model's tokens are forced along the known answer.
    """

    id: str
    question: str
    tools: tuple[dict[str, Any], ...]
    calls: tuple[KnownCall, ...]
    answer: tuple[str, ...] = ()
    is_forced: bool = True


@dataclass(frozen=True, slots=True)
class CaseSuite:
    """Cases of one kind.

    Attributes:
        name: of the suite.
        cases: those that can be used.
        skipped: reasons why others cannot, and how many they are.
    """

    name: str
    cases: tuple[Case, ...]
    skipped: Counter[str] = field(default_factory=Counter)
