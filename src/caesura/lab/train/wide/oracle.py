"""What a perfect model writes for tasks over JSON-schema tools. Its rules are what is trained.

1. Issue what can be issued, the longest call first: what is asked for, what a result has made
   possible, what failed once.
2. In sync_parallel mode, wait for the bundle.
3. Complete the sentence that an interrupt cut.
4. Write what was asked for and needs no call.
5. Tell the results that have arrived, in their order; of failures those that are final.
6. If calls are pending, wait: in async mode with a sentence before, unless something arrived.
7. Else end.
"""

from collections.abc import Iterable

from caesura.cml import USER_ID, Call, Interrupt, Mode, Text, Trap
from caesura.lab.train.session_codec import SessionCodec
from caesura.lab.train.session_simulation import Simulation
from caesura.lab.train.wide.ids import letter_id
from caesura.lab.train.wide.tasks import GraphTask


class GraphOracle:
    """Writes one session of a task.

    Args:
        task: what is asked.
        mode: of the session.
        codec: of the model.
        used_ids: ids of the conversation's calls so far.
    """

    def __init__(
        self, task: GraphTask, mode: Mode, codec: SessionCodec, used_ids: Iterable[str] = ()
    ) -> None:
        self._task = task
        self._mode = mode
        self._codec = codec
        self._used = len(list(used_ids))
        self._issued: dict[str, int] = {}
        self._attempts = [0] * len(task.calls)
        self._to_call = {i for i, call in enumerate(task.calls) if not call.steering}
        self._have_result: set[int] = set()
        self._to_tell: list[int] = []
        self._read = 0
        self._answered = 0
        self._prose = f" {task.prose}" if mode is Mode.ASYNC else ""
        self._work = task.work
        self._sentence: list[int] = []
        self._is_optional = False

    def write(self, simulation: Simulation) -> None:
        """Write the whole session."""
        while not simulation.is_over:
            self._take(simulation.injected)
            if (index := self._next_call()) is not None:
                self._call(simulation, index)
            elif self._pending and self._mode is Mode.SYNC_PARALLEL:
                self._frame(simulation, Trap())
            elif self._sentence:
                self._write_on(simulation)
            elif text := self._next_text(simulation):
                self._sentence = self._codec.encode([Text(text)])
            elif self._pending:
                self._frame(simulation, Trap())
            else:
                simulation.offer(self._codec.eos)

    def _next_text(self, simulation: Simulation) -> str:
        """The next sentence; empty if there is none to write now."""
        if self._work:
            text, self._work = self._work, ""
            return text
        if self._to_tell:
            return f" {self._task.calls[self._to_tell.pop(0)].sentence}"
        if self._pending and self._prose and not simulation.injected:
            text, self._prose = self._prose, ""
            self._is_optional = True
            return text
        return "" if simulation.text else self._task.reply

    def _write_on(self, simulation: Simulation) -> None:
        """Write a token of the sentence. Prose that an interrupt forestalls is no longer needed."""
        if simulation.offer(self._sentence[0]):
            self._sentence.pop(0)
        elif self._is_optional:
            self._sentence = []
        self._is_optional = False

    @property
    def _pending(self) -> int:
        return len(self._issued) - self._answered

    def _take(self, injected: list[Interrupt]) -> None:
        """Learn from the interrupts that are new."""
        for interrupt in injected[self._read :]:
            self._read += 1
            if interrupt.id == USER_ID:
                self._to_call |= {i for i, c in enumerate(self._task.calls) if c.steering}
                continue
            self._answered += 1
            index = self._issued[interrupt.id]
            call = self._task.calls[index]
            if self._attempts[index] <= len(call.failures) and self._attempts[index] < 2:
                self._to_call.add(index)
                continue
            if call.succeeds:
                self._have_result.add(index)
            if self._task.is_told(index):
                self._to_tell.append(index)

    def _next_call(self) -> int | None:
        ready = [
            index
            for index in sorted(self._to_call)
            if self._task.calls[index].parents <= self._have_result
        ]
        return max(ready, key=lambda i: self._task.calls[i].expected_seconds, default=None)

    def _call(self, simulation: Simulation, index: int) -> None:
        planned = self._task.calls[index]
        call_id = letter_id(self._used + len(self._issued))
        if self._frame(simulation, Call(call_id, planned.tool, planned.arguments), index):
            self._to_call.discard(index)

    def _frame(self, simulation: Simulation, frame: Call | Trap, index: int | None = None) -> bool:
        """Write a frame; whether an interrupt did not take the place of its first token.

        A call is known as issued before its last token, as its result may follow that at once.
        """
        *tokens, last = self._codec.encode([frame])
        for token in tokens:
            if not simulation.offer(token):
                return False
        if isinstance(frame, Call) and index is not None:
            self._issued[frame.id] = index
            self._attempts[index] += 1
        simulation.offer(last)
        return True
