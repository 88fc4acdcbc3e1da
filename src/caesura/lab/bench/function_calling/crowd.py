"""Many sessions at once in asynchronous mode, under one policy after the other.

All sessions of a run are submitted at the same moment and share the device's memory. Each seed
draws its cases and their execution times; the order of the policies rotates from seed to seed.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from caesura.cml import Mode
from caesura.lab.bench.function_calling.cases import Case, Suite
from caesura.lab.bench.function_calling.display import FunctionCallingDisplay
from caesura.lab.bench.function_calling.engine import FunctionCallingEngine
from caesura.lab.bench.function_calling.plans import timed_calls
from caesura.lab.bench.function_calling.play import Stage, Task
from caesura.lab.bench.function_calling.records import CaseRun, Played
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.function_calling.suites import chosen_cases

_WARM_UP_SESSIONS = 4


async def compare_policies(
    settings: FunctionCallingSettings,
    suite: Suite,
    on_played: Callable[[Played], None],
    display: FunctionCallingDisplay,
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
        with display.runs("runs", len(settings.seeds) * len(engines)) as progress:
            for number, seed in enumerate(settings.seeds):
                planned = _tasks(settings, suite, seed)
                for policy in _rotated(settings.policies, number):
                    progress.on(f"{policy}, seed {seed}")
                    await engines[policy].reset()
                    for played in await _together(engines[policy].stage, planned):
                        run = replace(played.run, policy=policy, seed=seed)
                        on_played(replace(played, run=run))
                    progress.done()


def _tasks(settings: FunctionCallingSettings, suite: Suite, seed: int) -> list[Task]:
    assert settings.sessions is not None
    cases = chosen_cases(suite, settings.sessions, seed)
    return [
        _task(settings, cases[number % len(cases)], seed, number // len(cases))
        for number in range(settings.sessions)
    ]


def _task(settings: FunctionCallingSettings, case: Case, seed: int, repetition: int) -> Task:
    order = settings.order[0]
    return Task(
        suite=settings.suite,
        case=replace(case, question=f"{case.question}\n({repetition + 1})"),  # no shared prompt
        calls=timed_calls(case, settings.draw, seed, order),
        mode=Mode.ASYNC,
        repetition=repetition,
        order=order,
    )


async def _together(stage: Stage, planned: Sequence[Task]) -> list[Played]:
    prompts = [stage.prompt(task) for task in planned]
    async with asyncio.TaskGroup() as group:
        playing = [
            group.create_task(stage.play(task, prompt))
            for task, prompt in zip(planned, prompts, strict=True)
        ]
    return [task.result() for task in playing]


async def _warm_up(
    settings: FunctionCallingSettings,
    suite: Suite,
    engines: Mapping[str, FunctionCallingEngine],
    display: FunctionCallingDisplay,
) -> None:
    few = settings.model_copy(update={"sessions": _WARM_UP_SESSIONS})
    for policy, engine in engines.items():
        with display.activity(f"warming up: {policy}"):
            await _together(engine.stage, _tasks(few, suite, settings.seeds[0]))


def _rotated(policies: Sequence[str], number: int) -> list[str]:
    first = number % len(policies)
    return [*policies[first:], *policies[:first]]


def makespans(runs: Sequence[CaseRun]) -> dict[tuple[str, int], float]:
    """Latency of the last session, by policy and seed."""
    last: dict[tuple[str, int], float] = {}
    for run in runs:
        if run.policy is not None and run.seed is not None:
            key = run.policy, run.seed
            last[key] = max(last.get(key, 0.0), run.latency_s)
    return last
