"""A known answer as a plan of calls, and what a perfect model would write of it next.

Calls may need the results of others, and results arrive in any order, so what comes next is a
function of the whole context and no fixed sequence of tokens:

* a call that is begun, or a trap, is written to its end;
* then the first call, in the order of the plan, that is not written yet and whose needed results
  are in the context;
* without one, a trap if the plan has traps and results are missing;
* else the answer, and the end of the sequence.

The same context gives the same token, so nothing shifts when interrupts come at any place, when a
token is discarded, or when a context is computed again. Standard library only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

ARGUMENT = "caesura_call_plan"
"""Key in `SamplingParams.extra_args`: the plan of a session."""

SCRIPT_ARGUMENT = "caesura_turn_script"
"""Key in `SamplingParams.extra_args`: a list with the place in the context where a turn begins,
0 for right behind the request's prompt, and all tokens of the turn."""


@dataclass(frozen=True, slots=True)
class TokenizedCall:
    """One call of a plan, in tokens.

    Attributes:
        id: of the call.
        body: name and arguments.
        after: indices in the plan of the calls whose results it needs.
    """

    id: tuple[int, ...]
    body: tuple[int, ...]
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MarkerTokens:
    """The tokens of the five markers."""

    call: int
    interrupt: int
    trap: int
    head: int
    end: int


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What a session is to write.

    Attributes:
        prompt_tokens: length of the first prompt; what it says is not read.
        markers: their tokens.
        calls: in the order in which they are preferred.
        answer: text behind the last result.
        end_of_sequence: the token that ends the turn.
        traps: whether it traps for results that it needs (`async`), or the engine stops it.
    """

    prompt_tokens: int
    markers: MarkerTokens
    calls: tuple[TokenizedCall, ...]
    answer: tuple[int, ...]
    end_of_sequence: int
    traps: bool

    def to_argument(self) -> dict[str, Any]:
        """The plan as plain values, for `SamplingParams.extra_args`."""
        return asdict(self)

    @classmethod
    def of_argument(cls, argument: Mapping[str, Any]) -> Self:
        """Read `to_argument` back."""
        calls = tuple(
            TokenizedCall(tuple(call["id"]), tuple(call["body"]), tuple(call["after"]))
            for call in argument["calls"]
        )
        return cls(
            prompt_tokens=argument["prompt_tokens"],
            markers=MarkerTokens(**argument["markers"]),
            calls=calls,
            answer=tuple(argument["answer"]),
            end_of_sequence=argument["end_of_sequence"],
            traps=argument["traps"],
        )


class PlannedWriter:
    """Follows a context token by token, and says what comes next by the plan."""

    def __init__(self, plan: CallPlan) -> None:
        self._plan = plan
        self._skip = plan.prompt_tokens
        self._by_id = {call.id: index for index, call in enumerate(plan.calls)}
        self._written: set[int] = set()
        self._resolved: set[int] = set()
        self._answer_tokens = 0
        self._frame: list[int] = []  # the tokens of the open frame

    def read(self, token_ids: Iterable[int]) -> None:
        """More of the context has come: tokens of the prompt, written ones, interrupts."""
        for token_id in token_ids:
            if self._skip:
                self._skip -= 1
            else:
                self._read(token_id)

    def next_token(self) -> int:
        """What is written now."""
        if self._frame:
            return self._within_frame()
        markers = self._plan.markers
        if any(self._is_ready(index) for index in range(len(self._plan.calls))):
            return markers.call
        if self._plan.traps and len(self._resolved) < len(self._plan.calls):
            return markers.trap
        if self._answer_tokens < len(self._plan.answer):
            return self._plan.answer[self._answer_tokens]
        return self._plan.end_of_sequence

    def _read(self, token_id: int) -> None:
        markers = self._plan.markers
        if token_id in (markers.call, markers.interrupt, markers.trap):
            self._frame = [token_id]
        elif not self._frame:
            self._answer_tokens += 1
        elif token_id == markers.end:
            self._frame_ended()
            self._frame = []
        else:
            self._frame.append(token_id)

    def _frame_ended(self) -> None:
        marker, content = self._frame[0], self._frame[1:]
        if marker == self._plan.markers.trap or self._plan.markers.head not in content:
            return
        head = content.index(self._plan.markers.head)
        index = self._by_id.get(tuple(content[:head]))
        if index is not None:
            known = self._written if marker == self._plan.markers.call else self._resolved
            known.add(index)

    def _within_frame(self) -> int:
        markers = self._plan.markers
        if self._frame[0] != markers.call:
            return markers.end
        written = self._frame[1:]
        for index in self._candidates():
            call = self._plan.calls[index]
            frame = (*call.id, markers.head, *call.body, markers.end)
            if list(frame[: len(written)]) == written:
                return frame[len(written)]
        return markers.end

    def _candidates(self) -> Sequence[int]:
        return [index for index in range(len(self._plan.calls)) if self._is_ready(index)]

    def _is_ready(self, index: int) -> bool:
        if index in self._written:
            return False
        return all(needed in self._resolved for needed in self._plan.calls[index].after)
