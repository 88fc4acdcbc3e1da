"""What a perfect model writes next. Its rules are the behaviour that is trained.

1. Issue what is asked for and can be issued, the longest call first.
2. Else take the first interrupt that is not dealt with: call what it makes possible, call again
   what failed once, else tell it.
3. Else, if calls are pending, wait: in async mode with a sentence before, unless there was an
   interrupt already.
4. Else end.

In sync_parallel mode text would close a bundle of calls in the middle of a line: a bundle always
ends with a trap, and what there is to tell comes after it.
"""

from collections.abc import Iterable

from caesura.cml import USER_ID, Call, Interrupt, Mode, Text, Trap
from caesura.lab.train.ids import id_of, is_retry, retry_of, tool_and_number
from caesura.lab.train.session_codec import SessionCodec
from caesura.lab.train.session_simulation import Simulation
from caesura.lab.train.tasks import Failure, Task


class Oracle:
    """Writes one session of a task.

    Args:
        task: what is asked.
        mode: of the session.
        codec: of the model.
        used_ids: ids of the conversation's calls so far.
    """

    def __init__(
        self, task: Task, mode: Mode, codec: SessionCodec, used_ids: Iterable[str] = ()
    ) -> None:
        self._task = task
        self._mode = mode
        self._codec = codec
        self._issued: dict[str, int] = {}
        self._attempts = [0] * len(task.calls)
        self._numbers: dict[str, int] = {}
        for call_id in used_ids:
            name, number = tool_and_number(call_id)
            self._numbers[name] = max(number, self._numbers.get(name, 0))
        self._dealt_with = 0
        self._plan: list[int] = []
        self._commit: Call | None = None
        self._takes_interrupt = False
        self._bundle_is_open = False
        self._index = 0

    def write(self, simulation: Simulation) -> None:
        """Write the whole session."""
        while not simulation.is_over:
            if not self._plan:
                self._plan = self._next_piece(simulation.injected)
            before = len(simulation.injected)
            if simulation.offer(self._plan[0]):
                self._advance()
            if len(simulation.injected) > before:
                self._plan = []
                self._bundle_is_open = False

    def _advance(self) -> None:
        if self._commit is not None:
            self._commit_call(self._commit)
            self._commit = None
        if self._takes_interrupt:
            self._dealt_with += 1
            self._takes_interrupt = False
        self._plan.pop(0)

    def _next_piece(self, injected: list[Interrupt]) -> list[int]:
        self._commit = None
        self._takes_interrupt = False
        steered = any(interrupt.id == USER_ID for interrupt in injected)
        for index, call in enumerate(self._task.calls):
            if call.parent is None and not self._attempts[index] and (steered or not call.steering):
                return self._call(index)
        while self._dealt_with < len(injected) and injected[self._dealt_with].id == USER_ID:
            self._dealt_with += 1
        if self._dealt_with < len(injected):
            self._takes_interrupt = True
            response = self._respond(injected[self._dealt_with])
            if self._commit is not None or not self._bundle_is_open:
                return response
            self._takes_interrupt = False
            return self._codec.encode([Trap()])
        if len(self._issued) > sum(interrupt.id != USER_ID for interrupt in injected):
            if self._mode is Mode.ASYNC and not injected:
                return self._codec.encode([Text(self._task.prose), Trap()])
            return self._codec.encode([Trap()])
        return [self._codec.eos]

    def _respond(self, interrupt: Interrupt) -> list[int]:
        index = self._issued[interrupt.id]
        outcome = self._task.calls[index].outcomes[self._attempts[index] - 1]
        if isinstance(outcome, Failure):
            if is_retry(interrupt.id):
                return self._codec.encode([Text(f" {interrupt.id}: failed.")])
            return self._call(index, retry_of(interrupt.id))
        if children := self._task.children(index):
            return self._call(children[0])
        return self._codec.encode([Text(f" {interrupt.id}: {outcome}.")])

    def _call(self, index: int, call_id: str | None = None) -> list[int]:
        planned = self._task.calls[index]
        if call_id is None:
            call_id = id_of(planned.tool, self._numbers.get(planned.tool, 0) + 1)
        self._commit = Call(call_id, planned.tool, {planned.parameter: planned.argument})
        self._index = index
        return self._codec.encode([self._commit])

    def _commit_call(self, call: Call) -> None:
        self._bundle_is_open = self._mode is Mode.SYNC_PARALLEL
        self._issued[call.id] = self._index
        self._attempts[self._index] += 1
        if not is_retry(call.id):
            self._numbers[call.name] = self._numbers.get(call.name, 0) + 1
