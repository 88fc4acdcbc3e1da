"""The demo's tasks as a suite: what its model is asked, and what it has to call and answer.

Nothing is forced here: the model decides, and may be wrong.
"""

from itertools import cycle, islice
from pathlib import Path
from random import Random

from caesura.bundled import CML_MODEL
from caesura.lab.bench.function_calling.cases import Case, CaseError, CaseSuite, KnownCall
from caesura.lab.train.demo_tasks import TaskSource
from caesura.lab.train.tasks import Task

CATEGORIES = ("parallel", "same_tool", "same_value", "mixed", "chain", "chain_single")
"""What has more than one call, and neither failures nor messages of the user in between."""


def demo_suite(name: str, count: int, seed: int) -> CaseSuite:
    """So many tasks, of all categories in turn, with values that training never saw."""
    source = TaskSource(Random(seed), held_out=True)
    categories = islice(cycle(CATEGORIES), count)
    cases = [
        _case(f"{category}-{number}", source.draw(category))
        for number, category in enumerate(categories)
    ]
    return CaseSuite(name, tuple(cases))


def demo_model_folder() -> Path:
    """Where the demo model is.

    Raises:
        CaseError: this installation does not have it.
    """
    if not (CML_MODEL / "model.safetensors").is_file():
        raise CaseError(
            "this installation has no demo model; give one of the same tools with --model, or "
            "use another --suite"
        )
    return CML_MODEL


def _case(name: str, task: Task) -> Case:
    calls = tuple(
        KnownCall(
            name=call.tool,
            arguments={call.parameter: call.argument},
            after=() if call.parent is None else (call.parent,),
            result=str(call.outcomes[-1]),
            seconds=call.expected_seconds,
        )
        for call in task.calls
    )
    told = (
        f": {call.result}."
        for index, call in enumerate(calls)
        if not any(index in other.after for other in calls)
    )
    return Case(name, task.question, (), calls, tuple(told), is_forced=False)
