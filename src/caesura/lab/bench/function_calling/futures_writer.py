"""What a perfect model writes whose calls are answered with futures: a call per turn."""

import re
from collections.abc import Sequence

from caesura.cml import Call
from caesura.cml.futures import AWAIT_TOOL
from caesura.lab.bench.function_calling.native_format import NativeFormat
from caesura.lab.bench.function_calling.plans import TimedCall
from caesura.session import Delta
from caesura.session.calling import CallSpan

_RESOLVED = re.compile(r'"future": "(f\d+)", "status": "(?:ready|failed)"')


class FuturesWriter:
    """Follows the known answer. See `scripted_engine.TurnWriter`.

    The first call, in the order of the plan, whose needed results it has read; without one it waits
    for a future: for the one that comes first of those that calls still need, else for the one that
    comes last, with which the others come; behind the last result it writes the answer.

    Args:
        form: of its turns.
        calls: the known answer, in the order in which calls are preferred.

    Attributes:
        spans: the calls that were written, in order, by the ids of the known answer.
        awaited: how often it waited.
        first_token_at, answered_at: of the first and the last token of all, once they are there.
        tokens: all that it has written.
    """

    def __init__(self, form: NativeFormat, calls: Sequence[TimedCall]) -> None:
        self.spans: list[CallSpan] = []
        self.awaited = 0
        self.tokens = 0
        self.first_token_at: float | None = None
        self.answered_at: float | None = None
        self._format = form
        self._calls = calls
        self._futures: dict[str, int] = {}  # places of calls by their futures
        self._due: dict[int, float] = {}  # when results of calls are expected
        self._resolved: set[int] = set()
        self._current: int | None = None  # the call that is being written
        self._opened_at: float | None = None
        self._turn_tokens = 0

    def turn(self, token_ids: Sequence[int]) -> list[int]:
        """See `TurnWriter`."""
        text = self._format.text(token_ids)
        self._resolved |= {
            self._futures[name] for name in _RESOLVED.findall(text) if name in self._futures
        }
        self._opened_at, self._turn_tokens = None, 0
        written = self._futures.values()
        unwritten = [index for index in range(len(self._calls)) if index not in written]
        self._current = next(filter(self._is_ready, unwritten), None)
        if self._current is not None:
            self._futures[f"f{len(self._futures) + 1}"] = self._current
            return self._format.call(self._calls[self._current].call)
        pending = {index: at for index, at in self._due.items() if index not in self._resolved}
        if not pending:
            return self._format.answer()
        self.awaited += 1
        needed = {index for later in unwritten for index in self._calls[later].after}
        choice = min(needed & pending.keys(), key=pending.__getitem__, default=None)
        if choice is None:
            choice = max(pending, key=pending.__getitem__)
        name = next(name for name, index in self._futures.items() if index == choice)
        return self._format.call(Call("", AWAIT_TOOL, {"future": name}))

    def written(self, delta: Delta, at: float) -> None:
        """See `TurnWriter`."""
        if delta.token_ids:
            self.answered_at = at
            self._opened_at = self._opened_at or at
            self.first_token_at = self.first_token_at or at
        self.tokens += len(delta.token_ids)
        self._turn_tokens += len(delta.token_ids)
        if delta.stop is None or self._current is None:
            return
        known = self._calls[self._current]
        self._due[self._current] = at + known.seconds
        call, opened_at = known.call, self._opened_at or at
        self.spans.append(
            CallSpan(call.id, call.name, call.arguments, opened_at, at, self._turn_tokens)
        )

    def _is_ready(self, index: int) -> bool:
        return all(needed in self._resolved for needed in self._calls[index].after)
