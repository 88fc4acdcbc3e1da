"""Whether a session over JSON-schema tools was a success."""

from collections import Counter

from caesura.cml import Call
from caesura.cml.frames import JsonObject, json_text
from caesura.train.judge import Verdict
from caesura.train.simulate import Simulation
from caesura.train.wide.tasks import GraphTask


def judge(task: GraphTask, simulation: Simulation) -> Verdict:
    """Judge a session of this task that has ended, or was stopped for its length.

    Right are exactly the calls of the task, each attempt that it needs, in any order; and an
    answer with a sentence for each result that was asked for, with the right value.
    """
    mistakes = [f"mistake of protocol: {error}" for error in simulation.errors]
    if not simulation.is_over:
        mistakes.append("it did not end")
    made = Counter(_key(call.name, call.arguments) for call in simulation.calls)
    wanted: Counter[str] = Counter()
    for index, planned in enumerate(task.calls):
        if task.is_possible(index):
            wanted[_key(planned.tool, planned.arguments)] += len(planned.outcomes)
    mistakes += [f"call missing: {key}" for key in (wanted - made).elements()]
    mistakes += [f"call too much: {key}" for key in (made - wanted).elements()]
    mistakes += _wrong_answers(task, simulation.text.casefold())
    return Verdict(tuple(mistakes), _is_longest_first(task, simulation.calls))


def _wrong_answers(task: GraphTask, text: str) -> list[str]:
    mistakes = []
    for index, planned in enumerate(task.calls):
        if task.is_told(index) and planned.sentence.casefold() not in text:
            mistakes.append(f"not told: {planned.sentence}")
    for expected in filter(None, (task.work.strip(), task.reply)):
        if expected.casefold() not in text:
            mistakes.append(f"not written: {expected}")
    return mistakes


def _is_longest_first(task: GraphTask, calls: list[Call]) -> bool:
    """Whether calls that can be issued at once were, the longest before the others."""
    at_once = {
        _key(planned.tool, planned.arguments): planned.expected_seconds
        for planned in task.calls
        if not planned.parents and not planned.steering
    }
    issued = dict.fromkeys(_key(call.name, call.arguments) for call in calls)
    durations = [at_once[key] for key in issued if key in at_once]
    return durations == sorted(durations, reverse=True)


def _key(tool: str, arguments: JsonObject) -> str:
    return f"{tool} {json_text(dict(sorted(arguments.items())))}"
