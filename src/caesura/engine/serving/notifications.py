"""What the API process tells the scheduler beside requests, about the pauses of sessions.

vLLM's clients can call any method of the engine core by its name, in whichever process that
is. The scheduler adds two when it is made, so that nothing has to be configured or installed
for it.
"""

from typing import Protocol

from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core import EngineCore

_PROGRESS = "caesura_report_progress"
_NEXT_PAUSE = "caesura_name_next_pause"


class FollowsPauses(Protocol):
    """A scheduler that follows what its sessions wait for."""

    def report_progress(
        self,
        request_id: str,
        fraction: float | None,
        remaining_seconds: float | None,
        endpoint: str | None,
    ) -> None:
        """See `Waits.note_progress` and `Waits.name_endpoint`."""

    def name_next_pause(self, request_id: str, endpoint: str) -> None:
        """See `Continuations.name_next`."""


def take_notifications() -> None:
    """Let the engine core of this process pass notifications on to its scheduler."""
    setattr(EngineCore, _PROGRESS, _pass_progress_on)
    setattr(EngineCore, _NEXT_PAUSE, _pass_name_on)


def _pass_progress_on(
    core: EngineCore,
    request_id: str,
    fraction: float | None,
    remaining_seconds: float | None,
    endpoint: str | None,
) -> None:
    scheduler: FollowsPauses = core.scheduler
    scheduler.report_progress(request_id, fraction, remaining_seconds, endpoint)


def _pass_name_on(core: EngineCore, request_id: str, endpoint: str) -> None:
    scheduler: FollowsPauses = core.scheduler
    scheduler.name_next_pause(request_id, endpoint)


async def report_progress(
    llm: AsyncLLM,
    request_id: str,
    fraction: float | None,
    remaining_seconds: float | None,
    endpoint: str | None = None,
) -> None:
    """Tell the scheduler how far what a paused session waits for has come.

    All engine cores are told, where there are several: those that do not have it ignore it.

    Args:
        llm: the engine, with Caesura's scheduler.
        request_id: the engine's own id of the session's request.
        fraction: the share that is done, or
        remaining_seconds: the time that is left.
        endpoint: what it waits for, when the pause began without saying so.
    """
    await llm.engine_core.call_utility_all_async(
        _PROGRESS, request_id, fraction, remaining_seconds, endpoint
    )


async def name_next_pause(llm: AsyncLLM, request_id: str, endpoint: str) -> None:
    """Tell the scheduler what a session will wait for when it pauses next.

    All engine cores are told, where there are several: those that do not have it ignore it.

    Args:
        llm: the engine, with Caesura's scheduler.
        request_id: the engine's own id of the session's request.
        endpoint: what it will wait for.
    """
    await llm.engine_core.call_utility_all_async(_NEXT_PAUSE, request_id, endpoint)
