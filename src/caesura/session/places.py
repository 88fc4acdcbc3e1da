"""Places to generate: how many sequences of one owner an engine generates at the same time.

A step of an engine takes longer with each sequence in it, for everybody. So each owner has some
places, and turns beyond them wait, in the order in which they came. They wait before the engine has
them: a session that is paused stays paused meanwhile, and no other owner waits for it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from caesura.session.errors import SessionClosed
from caesura.session.protocol import Delta, EngineStream, Sampling, TokenEngine


class Places:
    """The places of one owner.

    Args:
        most: how many there are; None for any number.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._taken = 0
        self._waiting: deque[Place] = deque()

    def ask(self, count: int = 1) -> "Place":
        """Ask for so many of them at once, or for all if there are fewer."""
        place = Place(self, count if self._most is None else min(count, self._most))
        self._waiting.append(place)
        self._grant()
        return place

    def give_back(self, place: "Place") -> None:
        """What was asked for is not needed any more, granted or not."""
        if place.is_granted:
            self._taken -= place.count
        else:
            self._waiting.remove(place)
        self._grant()

    def _grant(self) -> None:
        """First come, first served: one that asks for many is not overtaken for ever."""
        while self._waiting:
            count = self._waiting[0].count
            if self._most is not None and self._taken + count > self._most:
                return
            self._taken += count
            self._waiting.popleft().grant()


class Place:
    """What one turn asks for; an asynchronous context manager that waits for it.

    Args:
        places: where it comes from.
        count: how many it is of them.
    """

    def __init__(self, places: Places, count: int) -> None:
        self.count = count
        self._places = places
        self._decided = asyncio.Event()
        self.is_granted = False
        self._is_over = False

    def grant(self) -> None:
        """It is there."""
        self.is_granted = True
        self._decided.set()

    async def wait(self) -> bool:
        """Wait until it is there; False if it was given back first."""
        await self._decided.wait()
        return not self._is_over

    def give_back(self) -> None:
        """It is not needed any more, whether it was there or not."""
        if not self._is_over:
            self._is_over = True
            self._places.give_back(self)
            self._decided.set()

    async def __aenter__(self) -> None:
        try:
            await self.wait()
        except BaseException:
            self.give_back()
            raise

    async def __aexit__(self, *raised: object) -> None:
        self.give_back()


class OwnersPlaces:
    """The places of all owners.

    Args:
        most_of: how many an owner has; None for any number.
    """

    def __init__(self, most_of: Callable[[str], int | None]) -> None:
        self._most_of = most_of
        self._of: dict[str, Places] = {}

    def of(self, owner: str) -> Places:
        """The places of an owner."""
        if owner not in self._of:
            self._of[owner] = Places(self._most_of(owner))
        return self._of[owner]


class PlacedEngine:
    """An engine whose turns have a place each.

    Args:
        engine: generates.
        places: of the owner whose sessions are opened.
    """

    def __init__(self, engine: TokenEngine, places: Places) -> None:
        self._engine = engine
        self._places = places

    async def open(
        self,
        session_id: str,
        token_ids: Sequence[int],
        sampling: Sampling,
        endpoint: str | None = None,
    ) -> EngineStream:
        """Start a session; see `TokenEngine.open`. Without a place it waits for one while its
        deltas are read, and what is wrong with it is said there."""
        stream = _PlacedStream(self._engine, self._places, session_id)
        await stream.extend(token_ids, sampling, endpoint)
        return stream


class _PlacedStream:
    """A stream that keeps what it is given until there is a place."""

    def __init__(self, engine: TokenEngine, places: Places, session_id: str) -> None:
        self._engine = engine
        self._places = places
        self._session_id = session_id
        self._stream: EngineStream | None = None
        self._from_engine: AsyncIterator[Delta] | None = None
        self._kept: deque[tuple[Sequence[int], Sampling, str | None]] = deque()
        self._turns = 0  # that the engine has, and that have not ended
        self._place: Place | None = None
        self._changed = asyncio.Event()
        self._closed = False

    async def deltas(self) -> AsyncIterator[Delta]:
        """See `EngineStream.deltas`."""
        try:
            while await self._has_turn():
                assert self._from_engine is not None
                delta = await anext(self._from_engine, None)
                if delta is None:
                    return
                if delta.stop is not None:
                    self._turns -= 1
                    if not self._turns:
                        self._leave()
                yield delta
        finally:
            self._leave()

    async def _has_turn(self) -> bool:
        """Wait until the engine has a turn; False once the stream is closed."""
        while not self._turns and not self._closed:
            if self._place is not None and await self._place.wait():
                await self._begin()
            elif not self._closed:
                self._changed.clear()
                await self._changed.wait()
        return not self._closed

    async def extend(
        self, token_ids: Sequence[int], sampling: Sampling, endpoint: str | None = None
    ) -> None:
        """See `EngineStream.extend`."""
        if self._closed:
            raise SessionClosed(f"session {self._session_id} is closed")
        self._kept.append((token_ids, sampling, endpoint))
        if self._place is None:
            self._place = self._places.ask()
            self._changed.set()
            if self._place.is_granted:
                await self._begin()
        elif self._turns and self._stream is not None:
            await self._begin()

    async def _begin(self) -> None:
        """Give the engine what was kept."""
        try:
            while self._kept and not self._closed:
                turn = self._kept.popleft()
                self._turns += 1
                try:
                    await self._give(*turn)
                except BaseException:
                    self._turns -= 1
                    raise
        finally:
            if not self._turns:
                self._leave()

    async def _give(
        self, token_ids: Sequence[int], sampling: Sampling, endpoint: str | None
    ) -> None:
        if self._stream is not None:
            await self._stream.extend(token_ids, sampling, endpoint)
            return
        stream = await self._engine.open(self._session_id, token_ids, sampling, endpoint)
        if self._closed:  # meanwhile
            await stream.close()
        self._stream, self._from_engine = stream, stream.deltas()

    def _leave(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            place.give_back()

    async def progress(
        self,
        *,
        fraction: float | None = None,
        remaining_seconds: float | None = None,
        endpoint: str | None = None,
    ) -> None:
        """See `EngineStream.progress`."""
        if self._stream is not None:
            await self._stream.progress(
                fraction=fraction, remaining_seconds=remaining_seconds, endpoint=endpoint
            )

    async def name_next_pause(self, endpoint: str) -> None:
        """See `EngineStream.name_next_pause`."""
        if self._stream is not None:
            await self._stream.name_next_pause(endpoint)

    async def close(self) -> None:
        """See `EngineStream.close`."""
        self._closed = True
        self._changed.set()
        self._leave()
        if self._stream is not None:
            await self._stream.close()
