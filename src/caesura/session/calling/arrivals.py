"""What has arrived at a session and is not in its transcript."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from caesura.cml import Interrupt
from caesura.session.calling.codec import Codec

_THREADED_CHARACTERS = 8192


@dataclass(frozen=True, slots=True)
class Arrival:
    """An interrupt that arrived at a session.

    Attributes:
        interrupt: the interrupt.
        source: what its owner delivered it with, for the owner to know it again.
        is_error: the session itself tells its model of a mistake.
    """

    interrupt: Interrupt
    source: object = None
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Interrupts that are injected together, and their tokens."""

    arrivals: tuple[Arrival, ...]
    token_ids: tuple[int, ...]


class Arrivals:
    """Interrupts in order of arrival. The first of them may be in the engine, in batches.

    Args:
        codec: encodes them.
        arrivals: those that are there at the beginning.
    """

    def __init__(self, codec: Codec, arrivals: Iterable[Arrival]) -> None:
        self._codec = codec
        self._arrivals = list(arrivals)
        self._sent: deque[Batch] = deque()

    def __len__(self) -> int:
        return len(self._arrivals)

    @property
    def queued(self) -> list[Arrival]:
        """Those that the engine does not have."""
        return self._arrivals[sum(len(batch.arrivals) for batch in self._sent) :]

    @property
    def is_sent(self) -> bool:
        """Whether the engine has yet to place a batch."""
        return bool(self._sent)

    @property
    def errors(self) -> tuple[Interrupt, ...]:
        """What tells the model of its mistakes."""
        return tuple(arrival.interrupt for arrival in self._arrivals if arrival.is_error)

    def add(self, arrival: Arrival) -> None:
        """Queue it."""
        self._arrivals.append(arrival)

    async def batch(self) -> Batch:
        """All that is queued, as tokens, which are made in a thread if it is long."""
        arrivals = tuple(self.queued)
        interrupts = [arrival.interrupt for arrival in arrivals]
        if sum(len(interrupt.value) for interrupt in interrupts) > _THREADED_CHARACTERS:
            token_ids = await asyncio.to_thread(self._codec.interrupts, interrupts)
        else:
            token_ids = self._codec.interrupts(interrupts) if interrupts else []
        return Batch(arrivals, tuple(token_ids))

    def send(self, batch: Batch) -> None:
        """The engine gets the batch, which has the first of those that are queued."""
        self._sent.append(batch)

    def placed(self) -> Batch:
        """The engine has placed its first batch: it is in the transcript."""
        batch = self._sent.popleft()
        del self._arrivals[: len(batch.arrivals)]
        return batch

    def recall(self, batch: Batch | None = None) -> None:
        """The engine will not place the batch, or nothing at all by default: it is queued again.

        Nothing happens to a batch that is placed.
        """
        if batch is None:
            self._sent.clear()
        elif batch in self._sent:
            self._sent.remove(batch)
