"""What has arrived at a session and is not in its transcript."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from caesura.session.calling.codec import Codec
from caesura.session.calling.events import Arrival

_THREADED_CHARACTERS = 8192


@dataclass(frozen=True, slots=True)
class Batch:
    """Interrupts that are injected together, and their tokens."""

    arrivals: tuple[Arrival, ...]
    token_ids: tuple[int, ...]


class Inbox:
    """Interrupts in order of arrival: queued, then encoded, then under way in the engine.

    Args:
        codec: encodes them.
        arrivals: what is queued.
    """

    def __init__(self, codec: Codec, arrivals: Iterable[Arrival]) -> None:
        self._codec = codec
        self._queue = list(arrivals)
        self._encoding: list[Arrival] = []
        self._sent: deque[Batch] = deque()

    @property
    def is_queued(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._queue or self._encoding)

    @property
    def is_sent(self) -> bool:
        """Whether the engine has yet to place something."""
        return bool(self._sent)

    @property
    def arrivals(self) -> list[Arrival]:
        """All of it."""
        sent = [arrival for batch in self._sent for arrival in batch.arrivals]
        return [*sent, *self._encoding, *self._queue]

    def add(self, arrival: Arrival) -> None:
        """Queue it."""
        self._queue.append(arrival)

    async def take(self) -> Batch:
        """All that is queued, as tokens; made in a thread if it is long. Not for several tasks."""
        self._encoding, self._queue = self._queue, []
        interrupts = [arrival.interrupt for arrival in self._encoding]
        try:
            if sum(len(interrupt.value) for interrupt in interrupts) > _THREADED_CHARACTERS:
                token_ids = await asyncio.to_thread(self._codec.interrupts, interrupts)
            else:
                token_ids = self._codec.interrupts(interrupts) if interrupts else []
        except BaseException:
            self._queue[:0] = self._encoding
            raise
        finally:
            arrivals, self._encoding = tuple(self._encoding), []
        return Batch(arrivals, tuple(token_ids))

    def give_back(self, batch: Batch) -> None:
        """The batch was not sent: it comes before what has been queued since."""
        self._queue[:0] = batch.arrivals

    def note_sent(self, batch: Batch) -> None:
        """The batch is under way."""
        self._sent.append(batch)

    def note_refused(self, batch: Batch) -> None:
        """The engine did not take it; nothing if it was recalled meanwhile."""
        if batch in self._sent:
            self._sent.remove(batch)
            self.give_back(batch)

    def placed(self) -> Batch:
        """The first that is under way has its place now."""
        return self._sent.popleft()

    def recall(self) -> None:
        """The engine will place nothing more: all that is under way is queued again."""
        self._queue[:0] = [arrival for batch in self._sent for arrival in batch.arrivals]
        self._sent.clear()
