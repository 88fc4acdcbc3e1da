"""Copies from host memory to the device for requests that are to be scheduled."""

from collections import deque
from dataclasses import dataclass

from caesura.engine.copies.batch import CopyBatch, CopyKind
from caesura.engine.copies.groups import HostKey
from caesura.engine.copies.host_pool import HostPool


@dataclass(slots=True, eq=False)
class _Load:
    """Blocks that a request waits for.

    Attributes:
        request_id: the request.
        keys: keys of the blocks, pinned until the load is over.
        pairs: host slot and device block of each that has not been issued.
        failed: a batch with some of them failed.
    """

    request_id: str
    keys: list[HostKey]
    pairs: deque[tuple[int, int]]
    failed: bool = False


class Loads(CopyKind[_Load]):
    """Loads of requests that wait for them, within the budget, first come first served.

    Args:
        host: the host copies.
    """

    def __init__(self, host: HostPool) -> None:
        super().__init__()
        self._host = host
        self._queue: deque[_Load] = deque()
        self._by_request: dict[str, _Load] = {}
        self._failed: set[str] = set()

    def start(self, request_id: str, keys: list[HostKey], device_blocks: list[int]) -> None:
        """Queue loads of host copies into device blocks for a request."""
        slots = [self._host.pin(key) for key in keys]
        pairs = deque(zip(slots, device_blocks, strict=True))
        load = self._by_request[request_id] = _Load(request_id, keys, pairs)
        self._queue.append(load)

    def end(self, request_ids: set[str]) -> None:
        """The workers report that these requests' loads are over; their batches are by now."""
        for request_id in request_ids:
            load = self._by_request.pop(request_id, None)
            if load is not None:
                self._host.unpin(load.keys)
                if load.failed:
                    self._failed.add(request_id)

    def has_failed(self, request_id: str) -> bool:
        """Whether a load for the request failed: it computes what it lacks, and loads nothing."""
        return request_id in self._failed

    def forgive(self, request_id: str) -> None:
        """The request has blocks to compute in, or is gone: it may load again."""
        self._failed.discard(request_id)

    @property
    def backlog_blocks(self) -> int:
        """Blocks whose loads are queued or under way."""
        return sum(len(load.keys) for load in self._by_request.values())

    @property
    def pending(self) -> bool:
        """Whether any request waits for loads."""
        return super().pending or bool(self._by_request)

    def _take(self, batch: CopyBatch, budget_blocks: int) -> list[_Load]:
        taken: list[_Load] = []
        while self._queue and batch.num_blocks < budget_blocks:
            load = self._queue[0]
            taken.append(load)
            batch.loading.append(load.request_id)
            while load.pairs and batch.num_blocks < budget_blocks:
                batch.loads.append(load.pairs.popleft())
            if not load.pairs:
                self._queue.popleft()
                batch.finished_loads.append(load.request_id)
        return taken

    def _finish(self, item: _Load, succeeded: bool) -> None:
        item.failed |= not succeeded

    def _has_queued(self) -> bool:
        return bool(self._queue)


class UrgentLoads(CopyKind[HostKey]):
    """Loads that the very iteration reads whose batch they are in, whatever the budget.

    Args:
        host: the host copies.
    """

    def __init__(self, host: HostPool) -> None:
        super().__init__()
        self._host = host
        self._queue: list[tuple[HostKey, int, int]] = []  # key, host slot, device block

    def start(self, keys: list[HostKey], device_blocks: list[int]) -> None:
        """Load host copies in the coming iteration."""
        for key, block in zip(keys, device_blocks, strict=True):
            self._queue.append((key, self._host.pin(key), block))

    def _take(self, batch: CopyBatch, budget_blocks: int) -> list[HostKey]:
        queue, self._queue = self._queue, []
        batch.urgent_loads = [(slot, block) for _, slot, block in queue]
        return [key for key, _, _ in queue]

    def _finish(self, item: HostKey, succeeded: bool) -> None:
        self._host.unpin([item])

    def _has_queued(self) -> bool:
        return bool(self._queue)
