"""An engine whose sessions write what is decided at the beginning of each turn."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Protocol

from caesura.lab.bench.function_calling.call_plan import SCRIPT_ARGUMENT
from caesura.session import Delta, EngineStream, Sampling, TokenEngine


class TurnWriter(Protocol):
    """Decides what a session writes, and is told when it was written."""

    def turn(self, token_ids: Sequence[int]) -> list[int]:
        """All tokens of the turn behind these tokens, which the session has not seen before."""
        ...

    def written(self, delta: Delta, at: float) -> None:
        """Take what was generated, and when it was there."""
        ...


class ScriptedEngine:
    """A `TokenEngine`: another one, with turns that a writer decides.

    Args:
        engine: it loads `vllm_planned_calls.PLANNED_CALLS`.
        writer: for all its sessions, one after the other.
    """

    def __init__(self, engine: TokenEngine, writer: TurnWriter) -> None:
        self._engine = engine
        self._writer = writer

    async def open(
        self,
        session_id: str,
        token_ids: Sequence[int],
        sampling: Sampling,
        endpoint: str | None = None,
    ) -> EngineStream:
        """See `TokenEngine.open`."""
        script = _scripted(sampling, len(token_ids), self._writer.turn(token_ids))
        stream = await self._engine.open(session_id, token_ids, script, endpoint)
        return _ScriptedStream(stream, self._writer, len(token_ids))


class _ScriptedStream:
    def __init__(self, stream: EngineStream, writer: TurnWriter, tokens: int) -> None:
        self._stream = stream
        self._writer = writer
        self._tokens = tokens
        self.progress = stream.progress
        self.name_next_pause = stream.name_next_pause
        self.close = stream.close

    async def deltas(self) -> AsyncIterator[Delta]:
        async for delta in self._stream.deltas():
            self._tokens += len(delta.token_ids)
            self._writer.written(delta, time.perf_counter())
            yield delta

    async def extend(
        self, token_ids: Sequence[int], sampling: Sampling, endpoint: str | None = None
    ) -> None:
        self._tokens += len(token_ids)
        script = _scripted(sampling, self._tokens, self._writer.turn(token_ids))
        await self._stream.extend(token_ids, script, endpoint)


def _scripted(sampling: Sampling, start: int, script: Sequence[int]) -> Sampling:
    return replace(
        sampling,
        max_tokens=min(sampling.max_tokens, len(script)),
        extra={**(sampling.extra or {}), SCRIPT_ARGUMENT: [start, *script]},
    )
