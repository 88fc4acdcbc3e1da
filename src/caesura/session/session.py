"""A session: one conversation as tokens, that pauses, resumes and can be interrupted."""

import math
import uuid
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from types import TracebackType
from typing import Self

from caesura.session.errors import NotGenerating, NotPaused, SessionClosed, SessionDetached
from caesura.session.protocol import Delta, EngineStream, Sampling, StopReason, TokenEngine


class SessionState(StrEnum):
    """Where a session is in its life."""

    GENERATING = "generating"
    PAUSED = "paused"
    CLOSED = "closed"


class Session:
    """One conversation on an engine.

    Iterate it to receive deltas until it pauses; `resume` it with the tokens that it waited
    for and iterate again. `interrupt` injects tokens while it generates: the iteration goes
    on across the interrupt. Not safe for use by several tasks at once, except `interrupt`
    and `close`, which may be called while another task iterates.

    Attributes:
        id: the session's id.
        transcript: every token of the session in order: prompts, outputs, interrupts.
        stop: why the last turn ended, None before the first pause.
    """

    def __init__(
        self,
        engine: TokenEngine,
        session_id: str,
        stream: EngineStream,
        token_ids: Sequence[int],
        sampling: Sampling,
    ) -> None:
        self.id = session_id
        self.transcript: list[int] = list(token_ids)
        self.stop: StopReason | None = None
        self._engine = engine
        self._stream = stream
        self._deltas = stream.deltas()
        self._sampling = sampling
        self._turns_running = 1
        self._unseen: list[tuple[int, ...]] = []
        self._closed = False

    @classmethod
    async def open(
        cls,
        engine: TokenEngine,
        token_ids: Sequence[int],
        sampling: Sampling,
        *,
        session_id: str | None = None,
        endpoint: str | None = None,
    ) -> Self:
        """Open a session with its first prompt.

        Args:
            engine: where it runs.
            token_ids: the prompt, at least one token.
            sampling: how turns are generated, until `resume` or `interrupt` says otherwise.
            session_id: unique among open sessions; one is made up by default.
            endpoint: what the pause after the first turn waits for, when known beforehand.

        Raises:
            DuplicateSession: a session of that id is open.
            ValueError: there are no tokens.
        """
        _require_tokens(token_ids)
        session_id = session_id or f"session-{uuid.uuid4().hex}"
        stream = await engine.open(session_id, token_ids, sampling, endpoint)
        return cls(engine, session_id, stream, token_ids, sampling)

    @property
    def state(self) -> SessionState:
        """Generating, paused or closed."""
        if self._closed:
            return SessionState.CLOSED
        return SessionState.GENERATING if self._turns_running else SessionState.PAUSED

    def __aiter__(self) -> AsyncIterator[Delta]:
        """Deltas until the session pauses, across interrupts."""
        return self._until_pause()

    async def _until_pause(self) -> AsyncIterator[Delta]:
        while self._turns_running and not self._closed:
            try:
                delta = await anext(self._deltas)
            except StopAsyncIteration:
                self._closed = True
                return
            except SessionDetached:
                # It was let go just when it was resumed: what was sent was not received.
                while self._unseen:
                    self.transcript.extend(self._unseen.pop(0))
                    self._turns_running -= 1
                    yield Delta((), StopReason.INTERRUPTED)
                await self._reopen(self.transcript, None, None)
                continue
            if self._closed:  # meanwhile
                return
            self.transcript.extend(delta.token_ids)
            if delta.stop is not None:
                self.stop = delta.stop
                self._turns_running -= 1
                if self._unseen:
                    self.transcript.extend(self._unseen.pop(0))
            yield delta

    async def resume(
        self,
        token_ids: Sequence[int],
        sampling: Sampling | None = None,
        endpoint: str | None = None,
    ) -> None:
        """End the pause: append tokens and generate on. Iterate the session afterwards.

        Raises:
            SessionClosed: the session is over.
            NotPaused: the session is generating; use `interrupt`.
            ValueError: there are no tokens.
        """
        self._require_open()
        if self._turns_running:
            raise NotPaused(f"session {self.id} is generating; use interrupt() to inject tokens")
        _require_tokens(token_ids)
        try:
            await self._extend(token_ids, sampling, endpoint)
        except SessionDetached:
            await self._reopen([*self.transcript, *token_ids], sampling, endpoint)
        self.transcript.extend(token_ids)

    async def interrupt(
        self,
        token_ids: Sequence[int],
        sampling: Sampling | None = None,
        endpoint: str | None = None,
    ) -> None:
        """Inject tokens into the running generation, at the engine's next safe position.

        What was generated stays; the tokens appear in `transcript` at the position where they
        were injected, once the iteration has passed it.

        Raises:
            SessionClosed: the session is over.
            NotGenerating: the session is paused; use `resume`.
            ValueError: there are no tokens.
        """
        self._require_open()
        if not self._turns_running:
            raise NotGenerating(f"session {self.id} is paused; use resume() to go on")
        _require_tokens(token_ids)
        self._unseen.append(tuple(token_ids))
        try:
            await self._extend(token_ids, sampling, endpoint)
        except Exception:
            if self._unseen:  # empty when a turn ended meanwhile
                self._unseen.pop()
            raise

    async def progress(
        self,
        *,
        fraction: float | None = None,
        remaining_seconds: float | None = None,
        endpoint: str | None = None,
    ) -> None:
        """Say how far what the session waits for has come, so that its context is ready in time.

        A hint: it changes nothing but what the engine expects.

        Args:
            fraction: the share that is done, 0 to 1.
            remaining_seconds: the time that is left. One of the two at most.
            endpoint: what it waits for, when that was not known before the pause.

        Raises:
            SessionClosed: the session is over.
            NotPaused: the session is generating, and waits for nothing.
            ValueError: nothing to say, both of the two, or out of range.
        """
        self._require_open()
        if self._turns_running:
            raise NotPaused(f"session {self.id} is generating and waits for nothing")
        if endpoint is None or fraction is not None or remaining_seconds is not None:
            _require_progress(fraction, remaining_seconds)
        await self._stream.progress(
            fraction=fraction, remaining_seconds=remaining_seconds, endpoint=endpoint
        )

    async def name_next_pause(self, endpoint: str) -> None:
        """Say what the session will wait for when it pauses next, while it still generates.

        A hint: it changes nothing but what the engine expects.

        Raises:
            SessionClosed: the session is over.
        """
        self._require_open()
        await self._stream.name_next_pause(endpoint)

    async def _reopen(
        self, token_ids: Sequence[int], sampling: Sampling | None, endpoint: str | None
    ) -> None:
        """Go on in a new stream: the engine let the paused session go."""
        await self._stream.close()
        sampling = sampling or self._sampling
        self._stream = await self._engine.open(self.id, token_ids, sampling, endpoint)
        self._deltas = self._stream.deltas()
        self._sampling = sampling
        self._turns_running = 1

    async def close(self) -> None:
        """End the session at any moment. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            await self._stream.close()

    async def _extend(
        self, token_ids: Sequence[int], sampling: Sampling | None, endpoint: str | None
    ) -> None:
        sampling = sampling or self._sampling
        self._turns_running += 1
        try:
            await self._stream.extend(token_ids, sampling, endpoint)
        except Exception:
            self._turns_running -= 1
            raise
        self._sampling = sampling

    def _require_open(self) -> None:
        if self._closed:
            raise SessionClosed(f"session {self.id} is closed")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _require_tokens(token_ids: Sequence[int]) -> None:
    if not token_ids:
        raise ValueError("at least one token is needed to generate from")


def _require_progress(fraction: float | None, remaining_seconds: float | None) -> None:
    if (fraction is None) == (remaining_seconds is None):
        raise ValueError("progress is either a fraction or the remaining seconds")
    if fraction is not None and not 0 <= fraction <= 1:
        raise ValueError(f"a fraction is between 0 and 1, not {fraction}")
    if remaining_seconds is not None and not 0 <= remaining_seconds < math.inf:
        raise ValueError(f"remaining seconds are finite and not negative, not {remaining_seconds}")
