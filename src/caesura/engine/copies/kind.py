"""One kind of copy, with what is queued of it and what is under way."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from caesura.engine.copies.batch import CopyBatch

Item = TypeVar("Item")


class CopyKind(ABC, Generic[Item]):
    """Puts copies into the batches of iterations, and ends them when their batches are over.

    An item is what a batch has to be remembered for: a block, or the load of a request.
    """

    def __init__(self) -> None:
        self._under_way: dict[int, list[Item]] = {}  # by batch

    def launch(self, batch: CopyBatch, budget_blocks: int) -> None:
        """Add copies to an iteration's batch, up to so many blocks in all."""
        items = self._take(batch, budget_blocks)
        if items:
            self._under_way[batch.id] = items

    def finish(self, batch_id: int, succeeded: bool) -> None:
        """All workers have reported a batch."""
        for item in self._under_way.pop(batch_id, ()):
            self._finish(item, succeeded)

    @property
    def pending(self) -> bool:
        """Whether any copies are queued or under way."""
        return bool(self._under_way) or self._has_queued()

    @abstractmethod
    def _take(self, batch: CopyBatch, budget_blocks: int) -> list[Item]:
        """Move copies from the queue to the batch."""

    @abstractmethod
    def _finish(self, item: Item, succeeded: bool) -> None:
        """The item's copies in one batch are over."""

    @abstractmethod
    def _has_queued(self) -> bool:
        """Whether copies wait for a batch."""
