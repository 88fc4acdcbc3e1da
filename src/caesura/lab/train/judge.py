"""Whether a session was a success: the right calls and no others, and the right answer."""

import re
from collections import Counter
from dataclasses import dataclass

from caesura.cml import Call
from caesura.cml.frames import JsonObject, json_text
from caesura.lab.train.ids import is_retry
from caesura.lab.train.session_simulation import Simulation
from caesura.lab.train.tasks import PlannedCall, Task

FAILED = "failed"
_LINE = re.compile(r" (\w+): (\w+)\.")


@dataclass(frozen=True, slots=True)
class SessionVerdict:
    """What is to be said of a session.

    Attributes:
        mistakes: all that is wrong; a success has none.
        longest_first: independent calls were issued in the order of their expected durations.
    """

    mistakes: tuple[str, ...]
    longest_first: bool

    @property
    def succeeded(self) -> bool:
        """Whether nothing is wrong."""
        return not self.mistakes


def judge(task: Task, simulation: Simulation) -> SessionVerdict:
    """Judge a session of this task that has ended, or was stopped for its length."""
    wanted = Counter({_key(call): len(call.outcomes) for call in task.calls})
    mistakes = mistakes_without_the_answer(simulation, wanted)
    told = Counter(
        (_key_of_id(call_id, simulation), value)
        for call_id, value in _LINE.findall(simulation.text)
    )
    expected = Counter(
        (_key(call), _result(call))
        for index, call in enumerate(task.calls)
        if not task.children(index)
    )
    mistakes += [f"not told: {line}" for line in (expected - told).elements()]
    mistakes += [f"wrongly told: {line}" for line in (told - expected).elements()]
    return SessionVerdict(tuple(mistakes), _is_longest_first(task, simulation))


def mistakes_without_the_answer(simulation: Simulation, wanted: Counter[str]) -> list[str]:
    """What is wrong with a session but for what it told.

    Args:
        simulation: the session.
        wanted: keys (`call_key`) of the calls that it should have made, each as often as that.
    """
    mistakes = [f"mistake of protocol: {error}" for error in simulation.errors]
    if not simulation.is_over:
        mistakes.append("it did not end")
    made = Counter(call_key(call.name, call.arguments) for call in simulation.calls)
    mistakes += [f"call missing: {key}" for key in (wanted - made).elements()]
    mistakes += [f"call too much: {key}" for key in (made - wanted).elements()]
    return mistakes


def call_key(tool: str, arguments: JsonObject) -> str:
    """The same for calls that say the same."""
    return f"{tool} {json_text(dict(sorted(arguments.items())))}"


def _key(call: PlannedCall) -> str:
    return call_key(call.tool, {call.parameter: call.argument})


def _key_of(call: Call) -> str:
    return call_key(call.name, call.arguments)


def _key_of_id(call_id: str, simulation: Simulation) -> str:
    for call in simulation.calls:
        if call.id == call_id:
            return _key_of(call)
    return call_id


def _result(call: PlannedCall) -> str:
    outcome = call.outcomes[-1]
    return outcome if isinstance(outcome, str) else FAILED


def _is_longest_first(task: Task, simulation: Simulation) -> bool:
    asked = {
        _key(call): call.expected_seconds
        for call in task.calls
        if call.parent is None and not call.steering
    }
    durations = [
        asked[_key_of(call)]
        for call in simulation.calls
        if _key_of(call) in asked and not is_retry(call.id)
    ]
    return durations == sorted(durations, reverse=True)
