"""The engine's side of a calling session: one conversation that goes on from wherever it stands."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from caesura.session.errors import SessionError
from caesura.session.protocol import Delta, Sampling, TokenEngine
from caesura.session.session import Session, SessionState


class Generation:
    """A `Session` that is opened when it is needed, and counts the tokens of a whole turn.

    A turn of the model may be interrupted and paused many times: `Sampling.max_tokens` is what it
    has in all. Not for several tasks at once, except `interrupt` and `close`.

    Args:
        engine: where it runs.
        session_id: unique among open sessions; None to have one made up.
        token_ids: the transcript so far.
        sampling: how turns are generated.
        generated_tokens: of the current turn, so far.
    """

    def __init__(
        self,
        engine: TokenEngine,
        session_id: str | None,
        token_ids: Sequence[int],
        sampling: Sampling,
        generated_tokens: int,
    ) -> None:
        self.generated_tokens = generated_tokens
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

    @property
    def tokens_left(self) -> int:
        """What the turn may still generate; negative if the engine was ahead."""
        return self._sampling.max_tokens - self.generated_tokens

    @property
    def max_tokens(self) -> int:
        """What a turn may generate."""
        return self._sampling.max_tokens

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
                self.generated_tokens += len(delta.token_ids)
                return delta
            self._deltas = None
        return None

    async def go_on(self, token_ids: Sequence[int] = (), in_reasoning: bool | None = None) -> None:
        """Generate, after these tokens if there are any.

        `in_reasoning` says whether the turn goes on inside a reasoning block; None: it is a new
        one, and begins as the codec's rules say.

        An engine resumes a paused session with tokens only; without any it is opened anew.

        Raises:
            ContextFull: nothing could be generated.
        """
        session = self._session
        if session is not None and session.state is SessionState.PAUSED and token_ids:
            await session.resume(token_ids, self._remaining(in_reasoning))
            return
        await self.halt()
        self._session = await Session.open(
            self._engine,
            [*self._before, *token_ids],
            self._remaining(in_reasoning),
            session_id=self._session_id,
        )

    async def interrupt(self, token_ids: Sequence[int]) -> None:
        """Let these tokens take their place in what is generated, as soon as the engine can.

        Raises:
            ContextFull: nothing could be generated after them.
            SessionClosed: it was halted meanwhile.
        """
        assert self._session is not None
        sampling = self._remaining()
        if sampling.frames is not None:
            sampling = replace(sampling, frames=replace(sampling.frames, in_reasoning=None))
        await self._session.interrupt(token_ids, sampling)

    async def report_progress(self, remaining_seconds: float | None, endpoint: str) -> None:
        """Tell the engine what a pause waits for, and for how long; nothing if it is over."""
        session = self._session
        if session is not None and session.state is SessionState.PAUSED:
            await session.progress(remaining_seconds=remaining_seconds, endpoint=endpoint)

    async def halt(self) -> None:
        """Stop where the last delta ended; interrupts that have not taken their place are lost."""
        if self._session is None:
            return
        session, self._before = self._session, self._session.transcript
        self._session = self._deltas = None
        await session.close()

    def begin_turn(self) -> None:
        """The next turn has all its tokens."""
        self.generated_tokens = 0

    def _remaining(self, in_reasoning: bool | None = None) -> Sampling:
        if self.tokens_left <= 0:
            raise SessionError(f"the turn has had its {self.max_tokens} tokens")
        sampling = replace(self._sampling, max_tokens=self.tokens_left)
        if in_reasoning is None or sampling.frames is None:
            return sampling
        return replace(sampling, frames=replace(sampling.frames, in_reasoning=in_reasoning))
