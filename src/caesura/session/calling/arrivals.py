"""Interrupts that have arrived at a session and are not in its transcript yet."""

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
        source: the owner's own handle, as passed to `CallingSession.deliver`.
        is_error: whether the session itself made it, to tell the model of a mistake.
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
    """Interrupts in order of arrival; the engine may already have the first of them, in batches.

    Args:
        codec: encodes them.
        arrivals: queued from the beginning.
    """

    def __init__(self, codec: Codec, arrivals: Iterable[Arrival]) -> None:
        self._codec = codec
        self._arrivals = list(arrivals)
        self._sent: deque[Batch] = deque()

    def __len__(self) -> int:
        return len(self._arrivals)

    @property
    def queued(self) -> list[Arrival]:
        """Arrivals that the engine does not have yet."""
        return self._arrivals[sum(len(batch.arrivals) for batch in self._sent) :]

    @property
    def is_sent(self) -> bool:
        """Whether the engine has yet to place a batch."""
        return bool(self._sent)

    @property
    def errors(self) -> tuple[Interrupt, ...]:
        """Interrupts that tell the model of its mistakes."""
        return tuple(arrival.interrupt for arrival in self._arrivals if arrival.is_error)

    def add(self, arrival: Arrival) -> None:
        """Queue it."""
        self._arrivals.append(arrival)

    async def batch(self) -> Batch:
        """Encode everything that is queued, in a thread if it is long; it stays queued."""
        arrivals = tuple(self.queued)
        interrupts = [arrival.interrupt for arrival in arrivals]
        if sum(len(interrupt.value) for interrupt in interrupts) > _THREADED_CHARACTERS:
            token_ids = await asyncio.to_thread(self._codec.interrupts, interrupts)
        else:
            token_ids = self._codec.interrupts(interrupts) if interrupts else []
        return Batch(arrivals, tuple(token_ids))

    def send(self, batch: Batch) -> None:
        """Note that the engine gets the batch; it must hold the first queued arrivals."""
        self._sent.append(batch)

    def placed(self) -> Batch:
        """Remove the first batch that was sent: it is in the transcript now."""
        batch = self._sent.popleft()
        del self._arrivals[: len(batch.arrivals)]
        return batch

    def recall(self, batch: Batch | None = None) -> None:
        """Queue a batch again that the engine will not place; by default, all that were sent.

        A batch that has been placed stays where it is.
        """
        if batch is None:
            self._sent.clear()
        elif batch in self._sent:
            self._sent.remove(batch)
