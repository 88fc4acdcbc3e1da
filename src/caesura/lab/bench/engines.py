"""What a comparison needs of an engine that it runs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from caesura.session import TokenEngine


@dataclass(frozen=True, slots=True)
class Waste:
    """Shares of device memory x time, see `caesura.engine.pauses.waste`.

    Attributes:
        held: kept by paused contexts.
        recomputed: idle while tokens are computed that were computed before.
        copied: idle while copies are waited for, or taken and not loaded yet.
    """

    held: float
    recomputed: float
    copied: float


@dataclass(frozen=True, slots=True)
class EngineCounters:
    """What an engine counted since its last reset; None for what it does not count.

    Attributes:
        scheduled_tokens: tokens computed, prompts and outputs, again or for the first time.
        held_tokens: tokens of resumed contexts that were found held on the device.
        copied_tokens: tokens copied to host memory.
        loaded_tokens: tokens loaded back from host memory.
        pauses: pauses that the engine saw.
        waste: of device memory.
    """

    scheduled_tokens: int | None = None
    held_tokens: int | None = None
    copied_tokens: int | None = None
    loaded_tokens: int | None = None
    pauses: int | None = None
    waste: Waste | None = None


class RunningEngine(Protocol):
    """An engine under one policy, started and ready."""

    @property
    def tokens(self) -> TokenEngine:
        """Where sessions are opened."""
        ...

    @property
    def vocab_size(self) -> int:
        """Token ids are below it."""
        ...

    @property
    def max_context_tokens(self) -> int:
        """The longest context that it serves."""
        ...

    async def reset(self) -> None:
        """Forget the prefix cache, host copies and counters; no session is open."""
        ...

    async def counters(self) -> EngineCounters:
        """What was counted since the last reset."""
        ...

    async def shutdown(self) -> None:
        """Stop the engine and free what it holds."""
        ...


EngineFactory = Callable[[str], Awaitable[RunningEngine]]
"""Starts the engine for a policy by name."""
