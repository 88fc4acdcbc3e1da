"""Modes side by side: each case in each mode, one after the other.

The order of the modes rotates from case to case, so that slow drifts of the machine fall on all of
them alike. Prompts are in the prefix cache but for their last block, as those of an agent are
whose tools do not change.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from caesura.cml import Mode
from caesura.lab.bench.function_calling.cases import Case
from caesura.lab.bench.function_calling.display import FunctionCallingDisplay
from caesura.lab.bench.function_calling.engine import FunctionCallingEngine
from caesura.lab.bench.function_calling.plans import Order, timed_calls
from caesura.lab.bench.function_calling.play import Stage, Task
from caesura.lab.bench.function_calling.records import Played
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings

POLICY = "min-waste"
"""The policy under which modes are compared: the default of `caesura serve`."""


@dataclass(frozen=True, slots=True)
class Arm:
    """What is compared: a mode with an order of issue."""

    mode: Mode
    order: Order


def arms(settings: FunctionCallingSettings) -> list[Arm]:
    """All modes in the first order, and the asynchronous one in the others."""
    first, *others = settings.order
    found = [Arm(mode, first) for mode in settings.modes]
    if Mode.ASYNC in settings.modes:
        found += [Arm(Mode.ASYNC, order) for order in others]
    return found


def tasks(settings: FunctionCallingSettings, cases: Sequence[Case]) -> Iterator[Task]:
    """All runs in order: by repetition, by case, arms rotated by one from round to round."""
    compared = arms(settings)
    rounds = [(repetition, case) for repetition in range(settings.repetitions) for case in cases]
    for number, (repetition, case) in enumerate(rounds):
        first = number % len(compared)
        for arm in (*compared[first:], *compared[:first]):
            yield _task(settings, case, arm, repetition)


async def compare_modes(
    settings: FunctionCallingSettings,
    cases: Sequence[Case],
    on_played: Callable[[Played], None],
    display: FunctionCallingDisplay,
) -> None:
    """Play all cases in all modes on one engine.

    Args:
        settings: what is run.
        cases: of the suite.
        on_played: called with each run when it is over.
        display: where progress is shown.

    Raises:
        EngineStartError: the engine did not start.
        SessionError: it failed.
    """
    with display.activity("starting the engine"):
        engine = await FunctionCallingEngine.start(settings, POLICY)
    try:
        with display.activity("warming up"):
            for arm in arms(settings):
                await _play(engine.stage, _task(settings, cases[0], arm, 0))
        planned = list(tasks(settings, cases))
        with display.runs("cases", len(planned)) as progress:
            for task in planned:
                progress.on(f"{task.suite}, {task.mode}")
                on_played(await _play(engine.stage, task))
                progress.done()
    finally:
        await engine.shutdown()


async def _play(stage: Stage, task: Task) -> Played:
    prompt = stage.prompt(task)
    await stage.read_ahead(prompt)
    return await stage.play(task, prompt)


def _task(settings: FunctionCallingSettings, case: Case, arm: Arm, repetition: int) -> Task:
    return Task(
        suite=settings.suite,
        case=case,
        calls=timed_calls(case, settings.draw, settings.seed, arm.order),
        mode=arm.mode,
        repetition=repetition,
        order=arm.order,
        eager_bundles=settings.eager_bundles,
    )
