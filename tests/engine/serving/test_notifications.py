"""Notifications reach the scheduler as vLLM passes calls of the engine core on."""

from types import SimpleNamespace
from typing import Any

from vllm.v1.engine.core import EngineCore, EngineCoreProc

from caesura.engine.serving.notifications import (
    name_next_pause,
    report_progress,
    take_notifications,
)


class NotedScheduler:
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def report_progress(self, *told: object) -> None:
        self.heard.append(told)

    def name_next_pause(self, *told: object) -> None:
        self.heard.append(told)


class Core:
    """Calls a method as the process of vLLM's engine core does."""

    def __init__(self) -> None:
        self.scheduler = NotedScheduler()

    async def call_utility_all_async(self, name: str, *args: object) -> None:
        method = getattr(EngineCore, name).__get__(self)
        method(*EngineCoreProc._convert_msgspec_args(method, args))


async def test_what_is_told_reaches_the_scheduler() -> None:
    take_notifications()
    core = Core()
    llm: Any = SimpleNamespace(engine_core=core)
    await report_progress(llm, "a", 0.5, None)
    await report_progress(llm, "a", None, 3.0, "search")
    await name_next_pause(llm, "a", "human")
    assert core.scheduler.heard == [
        ("a", 0.5, None, None),
        ("a", None, 3.0, "search"),
        ("a", "human"),
    ]
