"""Many sessions at once in asynchronous mode, under one policy after the other.

All sessions of a run are submitted at the same moment and share the device's memory. Each seed
draws its cases and their execution times; the order of the policies rotates from seed to seed.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from caesura.lab.bench.arms import interleaved
from caesura.lab.bench.display import RunsDisplay
from caesura.lab.bench.function_calling.case_player import CasePlayer
from caesura.lab.bench.function_calling.cases import Case, CaseSuite
from caesura.lab.bench.function_calling.engine import FunctionCallingEngine
from caesura.lab.bench.function_calling.plans import ModeCase, timed_calls
from caesura.lab.bench.function_calling.records import PlayedCase
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.function_calling.styles import Style
from caesura.lab.bench.function_calling.suites import chosen_cases

_WARM_UP_SESSIONS = 4


async def compare_policies(
    settings: FunctionCallingSettings,
    suite: CaseSuite,
    on_played: Callable[[PlayedCase], None],
    display: RunsDisplay,
) -> None:
    """Run all sessions at once under each policy with each seed.

    Args:
        settings: what is run; `sessions` is set.
        suite: the cases; they repeat if they are fewer than the sessions.
        on_played: called with each session's run.
        display: where progress is shown.

    Raises:
        EngineStartError: an engine did not start.
        SessionError: an engine failed.
    """
    async with AsyncExitStack() as stack:
        engines: dict[str, FunctionCallingEngine] = {}
        for policy in settings.policies:
            with display.activity(f"starting the engine: {policy}"):
                engines[policy] = await FunctionCallingEngine.start(settings, policy)
            stack.push_async_callback(engines[policy].shutdown)
        await _warm_up(settings, suite, engines, display)
        planned = [*interleaved(settings.seeds, settings.policies)]
        for number, (seed, policy) in enumerate(planned):
            with display.run(number, len(planned), f"{policy}, seed {seed}"):
                await engines[policy].reset()
                sessions = crowd(settings, suite, seed)
                for played in await play_together(engines[policy].player, sessions):
                    run = replace(played.run, policy=policy, seed=seed)
                    on_played(replace(played, run=run))


def crowd(settings: FunctionCallingSettings, suite: CaseSuite, seed: int) -> list[ModeCase]:
    """The cases of a run; they repeat if they are fewer than the sessions."""
    assert settings.sessions is not None
    cases = chosen_cases(suite, settings.sessions, seed)
    return [
        _mode_case(settings, cases[number % len(cases)], seed, number // len(cases))
        for number in range(settings.sessions)
    ]


def _mode_case(
    settings: FunctionCallingSettings, case: Case, seed: int, repetition: int
) -> ModeCase:
    order = settings.order[0]
    return ModeCase(
        suite=settings.suite,
        case=replace(case, question=f"{case.question}\n({repetition + 1})"),  # no shared prompt
        calls=timed_calls(case, settings.draw, seed, order),
        style=Style.ASYNC,
        repetition=repetition,
        order=order,
    )


async def play_together(player: CasePlayer, planned: Sequence[ModeCase]) -> list[PlayedCase]:
    """Play cases that are all submitted at once.

    Raises:
        SessionError: the engine failed.
    """
    prompts = [player.prompt(case) for case in planned]
    async with asyncio.TaskGroup() as group:
        playing = [
            group.create_task(player.play(case, prompt))
            for case, prompt in zip(planned, prompts, strict=True)
        ]
    return [task.result() for task in playing]


async def _warm_up(
    settings: FunctionCallingSettings,
    suite: CaseSuite,
    engines: Mapping[str, FunctionCallingEngine],
    display: RunsDisplay,
) -> None:
    few = settings.model_copy(update={"sessions": _WARM_UP_SESSIONS})
    for policy, engine in engines.items():
        with display.activity(f"warming up: {policy}"):
            await play_together(engine.player, crowd(few, suite, settings.seeds[0]))
