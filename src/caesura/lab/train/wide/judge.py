"""Whether a session over JSON-schema tools was a success."""

from collections import Counter

from caesura.cml import Call
from caesura.lab.train.judge import SessionVerdict, call_key, mistakes_without_the_answer
from caesura.lab.train.session_simulation import Simulation
from caesura.lab.train.wide.tasks import GraphTask


def judge(task: GraphTask, simulation: Simulation) -> SessionVerdict:
    """Judge a session of this task that has ended, or was stopped for its length.

    Right are exactly the calls of the task, each attempt that it needs, in any order; and an
    answer with a sentence for each result that was asked for, with the right value.
    """
    wanted: Counter[str] = Counter()
    for index, planned in enumerate(task.calls):
        if task.is_possible(index):
            wanted[call_key(planned.tool, planned.arguments)] += len(planned.outcomes)
    mistakes = mistakes_without_the_answer(simulation, wanted)
    mistakes += _wrong_answers(task, simulation.text.casefold())
    return SessionVerdict(tuple(mistakes), _is_longest_first(task, simulation.calls))


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
        call_key(planned.tool, planned.arguments): planned.expected_seconds
        for planned in task.calls
        if not planned.parents and not planned.steering
    }
    issued = dict.fromkeys(call_key(call.name, call.arguments) for call in calls)
    durations = [at_once[key] for key in issued if key in at_once]
    return durations == sorted(durations, reverse=True)
