"""What the API process tells the scheduler beside requests, about the pauses of sessions.

vLLM's clients can call any method of the engine core by its name, in whichever process that
is. The scheduler adds two when it is made, so that nothing has to be configured or installed
for it. All engine cores are called, where there are several: those that do not have the session
ignore it.
"""

from typing import Any

from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core import EngineCore

from caesura.endpoints import endpoint_name

_PROGRESS = "caesura_report_progress"
_NEXT_PAUSE = "caesura_name_next_pause"


def take_notifications() -> None:
    """Let the engine core of this process pass notifications on to its scheduler."""
    setattr(EngineCore, _PROGRESS, _pass_progress_on)
    setattr(EngineCore, _NEXT_PAUSE, _pass_name_on)


# vLLM counts the parameters before it calls them.


def _pass_progress_on(
    core: EngineCore,
    request_id: str,
    fraction: float | None,
    remaining_seconds: float | None,
    endpoint: str | None,
) -> None:
    scheduler: Any = core.scheduler
    scheduler.report_progress(request_id, fraction, remaining_seconds, endpoint)


def _pass_name_on(core: EngineCore, request_id: str, endpoint: str) -> None:
    scheduler: Any = core.scheduler
    scheduler.name_next_pause(request_id, endpoint)


async def report_progress(
    llm: AsyncLLM,
    request_id: str,
    fraction: float | None,
    remaining_seconds: float | None,
    endpoint: str | None = None,
) -> None:
    """Tell the scheduler how far what a paused session waits for has come.

    Args:
        llm: the engine, with Caesura's scheduler.
        request_id: the engine's own id of the session's request.
        fraction: the share that is done, or
        remaining_seconds: the time that is left.
        endpoint: what it waits for, if the pause began without an endpoint.
    """
    name = None if endpoint is None else endpoint_name(endpoint)
    await llm.engine_core.call_utility_all_async(
        _PROGRESS, request_id, fraction, remaining_seconds, name
    )


async def name_next_pause(llm: AsyncLLM, request_id: str, endpoint: str) -> None:
    """Tell the scheduler what a session (by the engine's own id of its request) will wait for
    when it pauses next."""
    await llm.engine_core.call_utility_all_async(_NEXT_PAUSE, request_id, endpoint_name(endpoint))
