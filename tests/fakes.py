"""A deterministic engine in memory: the next token is a hash of the transcript."""

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from caesura.session import Delta, DuplicateSession, Sampling, SessionClosed, StopReason

VOCAB_SIZE = 97

Model = Callable[[Sequence[int]], int]  # the next token of a transcript


def next_token(transcript: Sequence[int]) -> int:
    return zlib.crc32(" ".join(map(str, transcript)).encode()) % VOCAB_SIZE


def continuation(transcript: Sequence[int], tokens: int) -> list[int]:
    generated: list[int] = []
    for _ in range(tokens):
        generated.append(next_token([*transcript, *generated]))
    return generated


class FakeStream:
    """One session; generates when it is iterated, one token per turn of the event loop."""

    def __init__(self, session_id: str, eos_token_id: int, model: Model) -> None:
        self.transcript: list[int] = []
        self.endpoints: list[str | None] = []
        self.reports: list[tuple[float | None, float | None]] = []
        self.closed = False
        self._session_id = session_id
        self._eos_token_id = eos_token_id
        self._model = model
        self._turns: deque[tuple[list[int], Sampling]] = deque()
        self._changed = asyncio.Event()

    async def deltas(self) -> AsyncIterator[Delta]:
        while not self.closed:
            if not self._turns:
                self._changed.clear()
                await self._changed.wait()
                continue
            tokens, sampling = self._turns.popleft()
            cached, generated, stop = len(self.transcript), 0, None
            self.transcript += tokens
            while stop is None and not self.closed:
                await asyncio.sleep(0)
                if self._turns:
                    yield Delta((), StopReason.INTERRUPTED)
                    break
                token = self._model(self.transcript)
                self.transcript.append(token)
                generated += 1
                stop = self._stop(token, generated, sampling)
                stop_token_id = token if stop is StopReason.STOP else None
                yield Delta((token,), stop, stop_token_id, cached if generated == 1 else None)

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
        self._turns.append((list(token_ids), sampling))
        self.endpoints.append(endpoint)
        self._changed.set()

    async def progress(
        self, *, fraction: float | None = None, remaining_seconds: float | None = None
    ) -> None:
        self.reports.append((fraction, remaining_seconds))

    async def close(self) -> None:
        self.closed = True
        self._changed.set()


class FakeEngine:
    """A `TokenEngine`; `streams` has every session that was ever opened, by id."""

    def __init__(self, eos_token_id: int = 0, model: Model = next_token) -> None:
        self.eos_token_id = eos_token_id
        self.model = model
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
        stream = self.streams[session_id] = FakeStream(session_id, self.eos_token_id, self.model)
        await stream.extend(token_ids, sampling, endpoint)
        return stream
