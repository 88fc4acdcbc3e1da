"""Modes side by side: each case in each mode, one after the other.

Prompts are in the prefix cache but for their last block, as those of an agent are
whose tools do not change.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from caesura.cml import Mode
from caesura.lab.bench.arms import interleaved
from caesura.lab.bench.display import RunsDisplay
from caesura.lab.bench.function_calling.cases import Case
from caesura.lab.bench.function_calling.engine import FunctionCallingEngine
from caesura.lab.bench.function_calling.plans import IssueOrder, ModeCase, timed_calls
from caesura.lab.bench.function_calling.records import PlayedCase
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings

POLICY = "min-waste"
"""The policy under which modes are compared: the default of `caesura serve`."""


@dataclass(frozen=True, slots=True)
class CallingArm:
    """What is compared: a mode with an order of issue."""

    mode: Mode
    order: IssueOrder


def arms(settings: FunctionCallingSettings) -> list[CallingArm]:
    """All modes in the first order, and the asynchronous one in the others."""
    first, *others = settings.order
    found = [CallingArm(mode, first) for mode in settings.modes]
    if Mode.ASYNC in settings.modes:
        found += [CallingArm(Mode.ASYNC, order) for order in others]
    return found


def planned_cases(settings: FunctionCallingSettings, cases: Sequence[Case]) -> Iterator[ModeCase]:
    """All runs in order: by repetition, by case, arms rotated by one from round to round."""
    rounds = product(range(settings.repetitions), cases)
    for (repetition, case), arm in interleaved(rounds, arms(settings)):
        yield _mode_case(settings, case, arm, repetition)


async def compare_modes(
    settings: FunctionCallingSettings,
    cases: Sequence[Case],
    on_played: Callable[[PlayedCase], None],
    display: RunsDisplay,
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
                await engine.player.play_alone(_mode_case(settings, cases[0], arm, 0))
        planned = list(planned_cases(settings, cases))
        for number, case in enumerate(planned):
            with display.run(number, len(planned), f"{case.suite}, {case.mode}"):
                on_played(await engine.player.play_alone(case))
    finally:
        await engine.shutdown()


def _mode_case(
    settings: FunctionCallingSettings, case: Case, arm: CallingArm, repetition: int
) -> ModeCase:
    return ModeCase(
        suite=settings.suite,
        case=case,
        calls=timed_calls(case, settings.draw, settings.seed, arm.order),
        mode=arm.mode,
        repetition=repetition,
        order=arm.order,
        eager_bundles=settings.eager_bundles,
    )
