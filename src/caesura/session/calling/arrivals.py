"""Interrupts that have arrived at a session and are not in its transcript yet."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from caesura.cml import ERROR_ID, USER_ID, Interrupt
from caesura.session.calling.codec import Codec
from caesura.session.fitting import fitted

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
        room: how many tokens they may have now; None for any.
    """

    def __init__(
        self,
        codec: Codec,
        arrivals: Iterable[Arrival],
        room: Callable[[], int] | None = None,
    ) -> None:
        self._codec = codec
        self._room = room
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

    async def batch(self, beside: int = 0) -> Batch:
        """Encode everything that is queued, in a thread if it is long; it stays queued.

        Results are cut if the context has no room for all of them.

        Args:
            beside: tokens that need room together with it.
        """
        arrivals = tuple(self.queued)
        results = [each for each in arrivals if each.interrupt.id not in (USER_ID, ERROR_ID)]

        async def tokens_of(values: Sequence[str]) -> list[int]:
            cut = dict(zip(map(id, results), values, strict=True))
            return await self._encoded(
                [
                    replace(each.interrupt, value=cut.get(id(each), each.interrupt.value))
                    for each in arrivals
                ]
            )

        values = [each.interrupt.value for each in results]
        if self._room is None or not arrivals:
            return Batch(arrivals, tuple(await tokens_of(values)))
        sent = sum(len(batch.token_ids) for batch in self._sent)
        token_ids = await fitted(values, self._room() - sent - beside, tokens_of)
        return Batch(arrivals, tuple(token_ids))

    async def _encoded(self, interrupts: Sequence[Interrupt]) -> list[int]:
        if sum(len(interrupt.value) for interrupt in interrupts) > _THREADED_CHARACTERS:
            return await asyncio.to_thread(self._codec.interrupts, interrupts)
        return self._codec.interrupts(interrupts) if interrupts else []

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
