"""The tools of a benchmark: calls that sleep for the time that they are known to take."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from caesura.cml import Call, FireAndForget
from caesura.cml.frames import JsonObject, json_text
from caesura.lab.bench.function_calling.plans import TimedCall


@dataclass(slots=True)
class Execution:
    """A call of the known answer that was made. Times are seconds of the clock.

    Attributes:
        known: the call.
        began_at, ended_at: its execution; `ended_at` is None while it runs.
    """

    known: TimedCall
    began_at: float
    ended_at: float | None = None


class UnknownCall(Exception):
    """The model made a call that is not in the known answer."""


class Executions:
    """Executes calls of a known answer.

    Args:
        known: the answer.
        clock: seconds.
        together: calls wait until they are released; the calls of a bundle are executed together.

    Attributes:
        of_call: what was executed, by the id that the model gave the call.
    """

    def __init__(
        self, known: Sequence[TimedCall], clock: Callable[[], float], *, together: bool
    ) -> None:
        self.of_call: dict[str, Execution] = {}
        self._open = list(known)
        self._clock = clock
        self._together = together
        self._released = asyncio.Event()

    async def execute(self, call: Call | FireAndForget) -> str:
        """Sleep, and give the result.

        Raises:
            UnknownCall: it is not in the known answer, or was made before.
        """
        known = self._take(call)
        if self._together:
            await self._released.wait()
        assert isinstance(call, Call)
        execution = self.of_call[call.id] = Execution(known, self._clock())
        await asyncio.sleep(known.seconds)
        execution.ended_at = self._clock()
        return known.result

    async def execute_named(self, name: str, arguments: JsonObject) -> str:
        """The same for a call without an id: the first of its kind that was not made yet.

        Raises:
            UnknownCall: see `execute`.
        """
        asked = Call("", name, arguments)
        known = next((one for one in self._open if signature(one.call) == signature(asked)), None)
        return await self.execute(asked if known is None else known.call)

    def hold(self) -> None:
        """A call was issued: it waits with those of its bundle."""
        self._released.clear()

    def release(self) -> None:
        """The bundle is complete: begin what waits."""
        self._released.set()

    def _take(self, call: Call | FireAndForget) -> TimedCall:
        """The call of the answer that this is: by its id, else the first of its arguments."""
        same = [
            known
            for known in self._open
            if isinstance(call, Call) and signature(known.call) == signature(call)
        ]
        if not same or not isinstance(call, Call):
            raise UnknownCall(f"not a call of the known answer: {call.name}")
        known = next((one for one in same if one.call.id == call.id), same[0])
        self._open.remove(known)
        return known


def signature(call: Call) -> tuple[str, str]:
    """What a call is, whatever its id."""
    return call.name, json_text(_sorted(call.arguments))


def _sorted(arguments: JsonObject) -> JsonObject:
    return dict(sorted(arguments.items()))
