"""Notifications reach the scheduler by the way that vLLM has for them."""

from types import SimpleNamespace

from vllm.v1.engine.core import EngineCore, EngineCoreProc

from caesura.engine.serving.notifications import (
    name_next_pause,
    report_progress,
    take_notifications,
)


async def test_what_is_told_arrives_at_the_scheduler() -> None:
    told: list[tuple[object, ...]] = []
    core = SimpleNamespace(
        scheduler=SimpleNamespace(
            report_progress=lambda *args: told.append(args),
            name_next_pause=lambda *args: told.append(args),
        )
    )

    async def call(method: str, *args: object) -> None:
        bound = getattr(EngineCore, method).__get__(core)
        bound(*EngineCoreProc._convert_msgspec_args(bound, args))

    take_notifications()
    llm = SimpleNamespace(engine_core=SimpleNamespace(call_utility_all_async=call))
    await report_progress(llm, "a", 0.5, None, "look")
    await report_progress(llm, "a", None, 2.0)
    await name_next_pause(llm, "a", "look")
    assert told == [("a", 0.5, None, "look"), ("a", None, 2.0, None), ("a", "look")]
