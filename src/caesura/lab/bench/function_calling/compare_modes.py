"""Modes side by side: each case in each mode, one after the other.

Prompts are in the prefix cache but for their last block, as those of an agent are
whose tools do not change.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from caesura.lab.bench.arms import interleaved
from caesura.lab.bench.display import RunsDisplay
from caesura.lab.bench.function_calling.cases import Case
from caesura.lab.bench.function_calling.engine import FunctionCallingEngine
from caesura.lab.bench.function_calling.optimisations import cached, fused
from caesura.lab.bench.function_calling.plans import IssueOrder, ModeCase, timed_calls
from caesura.lab.bench.function_calling.records import PlayedCase
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.function_calling.styles import Style

POLICY = "min-waste"
"""The policy under which modes are compared: the default of `caesura serve`."""


@dataclass(frozen=True, slots=True)
class CallingArm:
    """What is compared: a style with an order of issue."""

    style: Style
    order: IssueOrder


def arms(settings: FunctionCallingSettings) -> list[CallingArm]:
    """All styles in the first order, and the asynchronous one in the others."""
    first, *others = settings.order
    found = [CallingArm(style, first) for style in settings.styles]
    if Style.ASYNC in settings.styles:
        found += [CallingArm(Style.ASYNC, order) for order in others]
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
        with display.activity("starting what stands beside it"):
            players = await engine.players(settings)
        with display.activity("warming up"):
            for arm in arms(settings):
                await players[arm.style].play_alone(_mode_case(settings, cases[0], arm, 0))
        planned = list(planned_cases(settings, cases))
        for number, case in enumerate(planned):
            with display.run(number, len(planned), f"{case.suite}, {case.style}"):
                on_played(await players[case.style].play_alone(case))
    finally:
        await engine.shutdown()


def _mode_case(
    settings: FunctionCallingSettings, case: Case, arm: CallingArm, repetition: int
) -> ModeCase:
    calls = timed_calls(case, settings.draw, settings.seed, arm.order)
    if arm.style is Style.SYNC_FUSED:
        calls = fused(calls)
    elif arm.style is Style.SYNC_CACHED:
        calls = cached(calls)
    return ModeCase(settings.suite, case, calls, arm.style, repetition, arm.order)
