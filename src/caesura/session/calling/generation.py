"""The engine's side of a calling session: one conversation that goes on from wherever it stands."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from caesura.session.protocol import Delta, Sampling, TokenEngine
from caesura.session.session import Session, SessionState


class Generation:
    """A `Session` that is opened when it is needed.

    Not for several tasks at once, except `interrupt` and `close`.

    Args:
        engine: where it runs.
        session_id: unique among open sessions; None to have one made up.
        token_ids: the transcript so far.
        sampling: how turns are generated; how many tokens they may have is said each time.
    """

    def __init__(
        self,
        engine: TokenEngine,
        session_id: str | None,
        token_ids: Sequence[int],
        sampling: Sampling,
    ) -> None:
        self._engine = engine
        self._session_id = session_id
        self._before = list(token_ids)
        self._sampling = sampling
        self._session: Session | None = None
        self._deltas: AsyncIterator[Delta] | None = None

    @property
    def transcript(self) -> Sequence[int]:
        """All tokens that have been read or appended."""
        return self._before if self._session is None else self._session.transcript

    @property
    def is_running(self) -> bool:
        """Whether the engine generates."""
        return self._session is not None and self._session.state is SessionState.GENERATING

    async def next_delta(self) -> Delta | None:
        """The next delta; None when the session was closed.

        Raises:
            SessionError: the engine failed.
        """
        session = self._session  # another task may halt it meanwhile
        assert session is not None
        while session.state is SessionState.GENERATING:
            if self._deltas is None:
                self._deltas = aiter(session)
            delta = await anext(self._deltas, None)
            if delta is not None:
                return delta
            self._deltas = None
        return None

    async def go_on(
        self, token_ids: Sequence[int], max_tokens: int, in_reasoning: bool | None
    ) -> None:
        """Generate, after these tokens if there are any.

        An engine resumes a paused session with tokens only; without any it is opened anew.

        Args:
            token_ids: what is appended first.
            max_tokens: how many tokens may be generated.
            in_reasoning: whether the turn goes on inside a reasoning block; None: it is a new
                one, and begins as the codec's rules say.

        Raises:
            ContextFull: nothing could be generated.
        """
        sampling = self._sampled(max_tokens)
        if in_reasoning is not None and sampling.frames is not None:
            sampling = replace(sampling, frames=replace(sampling.frames, in_reasoning=in_reasoning))
        session = self._session
        if session is not None and session.state is SessionState.PAUSED and token_ids:
            await session.resume(token_ids, sampling)
            return
        await self.halt()
        self._session = await Session.open(
            self._engine, [*self._before, *token_ids], sampling, session_id=self._session_id
        )

    async def interrupt(self, token_ids: Sequence[int], max_tokens: int) -> None:
        """Let these tokens take their place in what is generated, as soon as the engine can.

        Raises:
            ContextFull: nothing could be generated after them.
            SessionClosed: it was halted meanwhile.
        """
        assert self._session is not None
        sampling = self._sampled(max_tokens)
        if sampling.frames is not None:
            sampling = replace(sampling, frames=replace(sampling.frames, in_reasoning=None))
        await self._session.interrupt(token_ids, sampling)

    async def report_progress(self, remaining_seconds: float | None, endpoint: str) -> None:
        """Tell the engine what a pause waits for, and for how long; nothing if it is over."""
        session = self._session
        if session is not None and session.state is SessionState.PAUSED:
            await session.progress(remaining_seconds=remaining_seconds, endpoint=endpoint)

    async def name_next_pause(self, endpoint: str) -> None:
        """Tell the engine what the next pause will wait for; nothing if there is one already."""
        session = self._session
        if session is not None and session.state is SessionState.GENERATING:
            await session.name_next_pause(endpoint)

    async def halt(self) -> None:
        """Stop where the last delta ended; interrupts that have not taken their place are lost."""
        if self._session is None:
            return
        session, self._before = self._session, self._session.transcript
        self._session = self._deltas = None
        await session.close()

    def _sampled(self, max_tokens: int) -> Sampling:
        return replace(self._sampling, max_tokens=max_tokens)
