"""The copies of one iteration, as the scheduler sends them to the workers."""

from dataclasses import dataclass, field


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
        finished_loads: requests whose last load is in this batch.
    """

    id: int
    urgent_stores: list[tuple[int, int]] = field(default_factory=list)
    urgent_loads: list[tuple[int, int]] = field(default_factory=list)
    loads: list[tuple[int, int]] = field(default_factory=list)
    stores: list[tuple[int, int]] = field(default_factory=list)
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
