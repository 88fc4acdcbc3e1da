"""The copies of one iteration, as the scheduler sends them to the workers, and what they are of."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, TypeVar


@dataclass(slots=True)
class CopyBatch:
    """The copies of one iteration.

    Attributes:
        id: increasing number.
        urgent_stores: pairs (device block, host slot) of blocks that are overwritten from this
            iteration on: they are copied before anything else.
        urgent_loads: pairs (host slot, device block) that this iteration's computation reads.
        loads: pairs (host slot, device block) for requests that wait for them.
        stores: pairs (device block, host slot).
        loading: requests that wait for loads of this batch.
        finished_loads: requests whose last load is in this batch.
    """

    id: int
    urgent_stores: list[tuple[int, int]] = field(default_factory=list)
    urgent_loads: list[tuple[int, int]] = field(default_factory=list)
    loads: list[tuple[int, int]] = field(default_factory=list)
    stores: list[tuple[int, int]] = field(default_factory=list)
    loading: list[str] = field(default_factory=list)
    finished_loads: list[str] = field(default_factory=list)

    @property
    def num_blocks(self) -> int:
        """Blocks copied, both ways."""
        urgent = len(self.urgent_stores) + len(self.urgent_loads)
        return urgent + len(self.loads) + len(self.stores)


@dataclass(slots=True)
class FinishedBatches:
    """Batches whose copies are complete, and those that failed; and how fast copies were.

    Attributes:
        copied_blocks, copy_seconds: blocks copied one way, and how long that took.
    """

    completed: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    copied_blocks: int = 0
    copy_seconds: float = 0.0


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


class CopyListener:
    """Receives the events of `Transfers`. This one ignores them."""

    def copies_launched(self, batch: CopyBatch) -> None:
        """An iteration's copies were handed to the workers."""

    def copies_finished(self, batch_id: int, succeeded: bool) -> None:
        """All workers have reported a batch."""


NO_COPY_LISTENER = CopyListener()
