"""A known answer as the tokens that a session is to write."""

import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import Tokenizer

from caesura.cml import Call, Interrupt, Marker, Mode, Trap, encode_tokens
from caesura.cml.frames import json_text
from caesura.cml.markers import Symbol
from caesura.errors import ConfigurationError
from caesura.lab.bench.function_calling.call_plan import CallPlan, MarkerTokens, TokenizedCall
from caesura.lab.bench.function_calling.cases import Case, CaseError
from caesura.lab.bench.function_calling.latencies import Draw
from caesura.lab.bench.function_calling.styles import Style

ANSWER = " Done."
"""What is written behind the last result: short, since the calls are what is measured."""

TOOL_TOKENS = 1024
"""Room for tool definitions in a prompt, beyond those that are called."""


class IssueOrder(StrEnum):
    """Which call is issued first, among those that can be."""

    LONGEST_FIRST = "longest-first"
    RANDOM = "random"


class CallTokens:
    """Calls and results in the tokens of a model that has a token for each marker.

    Args:
        model: folder of the model.
        end_of_sequence: the token that ends its turns.

    Raises:
        ConfigurationError: a marker is no token of it.
    """

    def __init__(self, model: Path, end_of_sequence: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True  # text never becomes a special token
        self._end_of_sequence = end_of_sequence
        self._ids: dict[Symbol, int] = {}
        for marker in Marker:
            token = self._tokenizer.token_to_id(marker.value)
            if token is None:
                raise ConfigurationError(
                    f"the model has no token {marker.value}; `caesura bench calls` needs one "
                    "that was made for CML: leave out --model"
                )
            self._ids[marker] = token

    def plain(self, text: str) -> list[int]:
        """Tokens of text outside frames."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def call(self, call: Call) -> list[int]:
        """Tokens of a call, from `[CALL]` to `[END]`."""
        return encode_tokens([call], self._ids, self.plain)

    def interrupts(self, interrupts: Sequence[Interrupt]) -> list[int]:
        """Tokens of interrupts."""
        return encode_tokens(interrupts, self._ids, self.plain)

    def trap(self) -> list[int]:
        """Tokens of a trap."""
        return encode_tokens([Trap()], self._ids, self.plain)

    def around(self, call: Call, result: str) -> int:
        """How many tokens of a call and its result are neither the call's body nor the value."""
        body = self._planned(call).body
        interrupt = self.interrupts([Interrupt(call.id, result)])
        head = interrupt.index(self._ids[Marker.HEAD])
        return len(self.call(call)) - len(body) + head + 2

    def plan(self, calls: Sequence["TimedCall"], mode: Mode, prompt_tokens: int) -> CallPlan:
        """What a session of these calls is to write."""
        return CallPlan(
            prompt_tokens=prompt_tokens,
            markers=MarkerTokens(
                call=self._ids[Marker.CALL],
                interrupt=self._ids[Marker.INTR],
                trap=self._ids[Marker.TRAP],
                head=self._ids[Marker.HEAD],
                end=self._ids[Marker.END],
            ),
            calls=tuple(self._planned(timed.call, timed.after) for timed in calls),
            answer=tuple(self.plain(ANSWER)),
            end_of_sequence=self._end_of_sequence,
            traps=mode is Mode.ASYNC,
        )

    def _planned(self, call: Call, after: tuple[int, ...] = ()) -> TokenizedCall:
        tokens = self.call(call)
        head = tokens.index(self._ids[Marker.HEAD])
        return TokenizedCall(tuple(tokens[1:head]), tuple(tokens[head + 1 : -1]), after)


@dataclass(frozen=True, slots=True)
class TimedCall:
    """A call of a known answer with its id, its result and the time that it takes.

    Attributes:
        call: as it is to be issued.
        after: positions, in the sequence of calls, of those whose results it needs.
        seconds: from its `[END]` to its result.
        result: what it returns.
    """

    call: Call
    after: tuple[int, ...]
    seconds: float
    result: str


@dataclass(frozen=True, slots=True)
class ModeCase:
    """One case in one style.

    Attributes:
        suite: its name.
        case: what is asked.
        calls: the known answer, in the order in which calls are preferred.
        style: in which it is answered.
        repetition: number of the repetition.
        order: of the calls.
    """

    suite: str
    case: Case
    calls: Sequence[TimedCall]
    style: Style
    repetition: int = 0
    order: IssueOrder = IssueOrder.LONGEST_FIRST

    @property
    def mode(self) -> Mode:
        """What happens at a call."""
        return self.style.mode

    @property
    def answer(self) -> Sequence[str]:
        """Texts that must be in the answer."""
        return self.case.answer or (ANSWER.strip(),)


def timed_calls(
    case: Case, draw: Draw | None, seed: int, order: IssueOrder = IssueOrder.LONGEST_FIRST
) -> list[TimedCall]:
    """The calls of a case in the order in which they are preferred.

    Ids, results and times depend on the case and the seed only, so they are the same in all modes
    and orders. Expected times are the true ones.

    Args:
        case: the case.
        draw: execution times; None takes those of the suite.
        seed: of what is drawn.
        order: which call is preferred.

    Raises:
        CaseError: the suite has no times.
    """
    random = Random(f"{seed} {case.id}")
    seconds = [_seconds(case, index, draw, random) for index in range(len(case.calls))]
    results = [
        call.result or json_text({"result": f"{random.randrange(10**6):06}"}) for call in case.calls
    ]
    preferred = list(range(len(case.calls)))
    if order is IssueOrder.RANDOM:
        random.shuffle(preferred)
    else:
        preferred.sort(key=lambda index: -seconds[index])
    position = {index: place for place, index in enumerate(preferred)}
    return [
        TimedCall(
            Call(call_id(index), case.calls[index].name, case.calls[index].arguments),
            tuple(position[needed] for needed in case.calls[index].after),
            seconds[index],
            results[index],
        )
        for index in preferred
    ]


def issue_order(calls: Sequence[TimedCall]) -> list[int]:
    """Places of the calls as a session issues them that waits for each one: always the first whose
    needed results are there."""
    order: list[int] = []
    while len(order) < len(calls):
        order.append(
            next(
                index
                for index, call in enumerate(calls)
                if index not in order and all(needed in order for needed in call.after)
            )
        )
    return order


def _seconds(case: Case, index: int, draw: Draw | None, random: Random) -> float:
    seconds = case.calls[index].seconds if draw is None else draw(random)
    if seconds is None:
        raise CaseError(f"{case.id} does not say how long its calls take; use --latency")
    return seconds


def call_id(index: int) -> str:
    """An id of one token for each of 52 calls, longer ones beyond."""
    letters = string.ascii_letters
    return letters[index] if index < len(letters) else f"c{index}"


def fitting_tools(case: Case, tokens: CallTokens, budget_tokens: int) -> list[dict[str, Any]]:
    """The tools that are called, and of the others as many as fit the budget."""
    called = {call.name for call in case.calls}
    chosen: list[dict[str, Any]] = []
    used = 0
    for tool in case.tools:
        length = len(tokens.plain(json.dumps(tool, ensure_ascii=False)))
        if tool["function"]["name"] not in called and used + length > budget_tokens:
            break
        chosen.append(tool)
        used += length
    return chosen
