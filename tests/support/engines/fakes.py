"""A deterministic engine in memory: the next token is a hash of the transcript."""

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from caesura.cml import Ending, FrameWatch, Ruling, Verdict
from caesura.session import Delta, DuplicateSession, Sampling, SessionClosed, StopReason
from caesura.session.protocol import require_room

VOCAB_SIZE = 97

Model = Callable[[Sequence[int]], int]  # the next token of a transcript
Texts = Callable[[int], str]  # the text of a token
Pace = Callable[[Sequence[int]], Awaitable[None]]  # waits for the time of a transcript's next token

STOP_OF = {
    Ending.FRAME: StopReason.FRAME,
    Ending.BUNDLE: StopReason.FRAME,
    Ending.SEQUENCE: StopReason.STOP,
    Ending.INTERRUPTED: StopReason.INTERRUPTED,
}


def word(token: int) -> str:
    return f" {token}"


def next_token(transcript: Sequence[int]) -> int:
    return zlib.crc32(" ".join(map(str, transcript)).encode()) % VOCAB_SIZE


def continuation(transcript: Sequence[int], tokens: int) -> list[int]:
    generated: list[int] = []
    for _ in range(tokens):
        generated.append(next_token([*transcript, *generated]))
    return generated


async def at_once(transcript: Sequence[int]) -> None:
    await asyncio.sleep(0)


class FakeStream:
    """One session; generates when it is iterated, one token per turn of the event loop."""

    def __init__(
        self,
        session_id: str,
        eos_token_id: int,
        model: Model,
        text_of: Texts,
        max_context_tokens: int | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace or at_once
        self.transcript: list[int] = []
        self.endpoints: list[str | None] = []
        self.reports: list[tuple[float | None, float | None]] = []
        self.closed = False
        self._session_id = session_id
        self._eos_token_id = eos_token_id
        self._model = model
        self._text_of = text_of
        self._max_context_tokens = max_context_tokens
        self._turns: deque[tuple[list[int], Sampling]] = deque()
        self._changed = asyncio.Event()

    async def deltas(self) -> AsyncIterator[Delta]:
        while not self.closed:
            if not self._turns:
                self._changed.clear()
                await self._changed.wait()
                continue
            tokens, sampling = self._turns.popleft()
            cached = len(self.transcript)
            self.transcript += tokens
            watched = sampling.frames is not None
            turn = self._watched(sampling, cached) if watched else self._turn(sampling, cached)
            async for delta in turn:
                yield delta

    async def _turn(self, sampling: Sampling, cached: int) -> AsyncIterator[Delta]:
        generated, stop = 0, None
        while stop is None:
            await self._pace(self.transcript)
            if self.closed:
                break
            if self._turns:
                yield Delta((), StopReason.INTERRUPTED)
                break
            token = self._model(self.transcript)
            self.transcript.append(token)
            generated += 1
            stop = self._stop(token, generated, sampling)
            stop_token_id = token if stop is StopReason.STOP else None
            yield Delta((token,), stop, stop_token_id, cached if generated == 1 else None)

    async def _watched(self, sampling: Sampling, cached: int) -> AsyncIterator[Delta]:
        """A turn with `Sampling.frames`."""
        assert sampling.frames is not None
        ends = frozenset(() if sampling.ignore_eos else (self._eos_token_id,))
        watch = FrameWatch(sampling.frames, ends, self._text_of)
        generated, stop = 0, None
        while stop is None:
            await self._pace(self.transcript)
            if self.closed:
                break
            token = self._model(self.transcript)
            ruling = watch.feed(token, interrupt_waits=bool(self._turns))
            if ruling.verdict is Verdict.STOP_BEFORE:
                yield _cut(ruling, token)
                break
            self.transcript.append(token)
            generated += 1
            if ruling.ending is not None:
                stop = STOP_OF[ruling.ending]
            else:
                stop = self._stop(token, generated, sampling)
            stopped_by = token if stop in (StopReason.STOP, StopReason.FRAME) else None
            yield Delta((token,), stop, stopped_by, cached if generated == 1 else None)

    def _stop(self, token: int, generated: int, sampling: Sampling) -> StopReason | None:
        eos = () if sampling.ignore_eos else (self._eos_token_id,)
        if token in (*sampling.stop_token_ids, *eos):
            return StopReason.STOP
        return StopReason.LENGTH if generated == sampling.max_tokens else None

    async def extend(
        self, token_ids: Sequence[int], sampling: Sampling, endpoint: str | None = None
    ) -> None:
        if self.closed:
            raise SessionClosed(f"session {self._session_id} is closed")
        if self._max_context_tokens is not None:
            require_room(len(self.transcript) + len(token_ids), self._max_context_tokens)
        self._turns.append((list(token_ids), sampling))
        self.endpoints.append(endpoint)
        self._changed.set()

    async def progress(
        self,
        *,
        fraction: float | None = None,
        remaining_seconds: float | None = None,
        endpoint: str | None = None,
    ) -> None:
        if endpoint is not None:
            self.endpoints[-1] = endpoint
        self.reports.append((fraction, remaining_seconds))

    async def name_next_pause(self, endpoint: str) -> None:
        self.endpoints[-1] = endpoint

    async def close(self) -> None:
        self.closed = True
        self._changed.set()


def _cut(ruling: Ruling, token: int) -> Delta:
    """The end of a turn before a token."""
    assert ruling.ending is not None
    stop = STOP_OF[ruling.ending]
    return Delta((), stop, token if stop is StopReason.STOP else None)


class FakeEngine:
    """A `TokenEngine`; `streams` has every session that was ever opened, by id.

    No context may get as long as `max_context_tokens`.
    """

    max_context_tokens: int | None = None
    pace: Pace | None = None  # awaited before each token

    def __init__(
        self, eos_token_id: int = 0, model: Model = next_token, text_of: Texts = word
    ) -> None:
        self.eos_token_id = eos_token_id
        self.model = model
        self.text_of = text_of
        self.streams: dict[str, FakeStream] = {}

    @property
    def open_ids(self) -> set[str]:
        return {session_id for session_id, stream in self.streams.items() if not stream.closed}

    async def open(
        self,
        session_id: str,
        token_ids: Sequence[int],
        sampling: Sampling,
        endpoint: str | None = None,
    ) -> FakeStream:
        if session_id in self.open_ids:
            raise DuplicateSession(f"session {session_id} is already open")
        stream = self.streams[session_id] = FakeStream(
            session_id,
            self.eos_token_id,
            self.model,
            self.text_of,
            self.max_context_tokens,
            self.pace,
        )
        await stream.extend(token_ids, sampling, endpoint)
        return stream
