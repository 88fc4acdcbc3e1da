"""Copies that are being written to host memory, and the contexts that rely on them.

run   | kept: pinned, some still being written | to be kept |
^ `kept`     ^ end of `block_hashes`
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from vllm.v1.core.kv_cache_utils import BlockHash

from caesura.engine.copies.host_pool import HostPool


@dataclass(slots=True, eq=False)
class Run:
    """Consecutive blocks of a context that host memory keeps, or is to keep.

    Attributes:
        owner: the id of the paused context or of the request that they belong to.
        block_hashes: hashes of the blocks.
        kept: how many leading blocks have a copy that is pinned for the run.
        closed: nobody relies on it any more.
    """

    owner: str
    block_hashes: list[BlockHash]
    kept: int = 0
    closed: bool = False

    @property
    def whole(self) -> bool:
        """Whether no block is left to be kept."""
        return self.kept >= len(self.block_hashes)

    def cut(self, end: int) -> None:
        """Keep nothing from block `end` on."""
        del self.block_hashes[end:]
        self.kept = min(self.kept, end)


@dataclass(slots=True, eq=False)
class HostWrites:
    """Pins the copies of runs, and ends runs where a copy fails.

    Attributes:
        copied_blocks: blocks written so far.
    """

    host: HostPool
    copied_blocks: int = field(default=0, init=False)
    _runs: dict[Run, None] = field(default_factory=dict, init=False)
    # Copies that others make.
    _awaiting: dict[BlockHash, list[Run]] = field(default_factory=dict, init=False)
    # Owners, in the order of the events.
    _progressed: dict[str, None] = field(default_factory=dict, init=False)

    def open(self, run: Run) -> None:
        """Keep blocks for a run until it is closed."""
        self._runs[run] = None

    def close(self, run: Run, *, forget: bool = False) -> None:
        """Rely on a run no longer. With `forget` its copies are the first to be replaced."""
        del self._runs[run]
        self.host.unpin(run.block_hashes[: run.kept], forget=forget)
        run.kept = 0
        run.closed = True

    def keep_next(self, run: Run) -> int | None:
        """Keep the next block of a run.

        Returns:
            The slot that the block has to be copied to, pinned until `finish`. None if there is
            a copy or another is making one; and None if host memory is full of copies that
            others rely on, where the run ends.
        """
        block_hash, slot = run.block_hashes[run.kept], None
        if block_hash not in self.host:
            slot = self.host.reserve(block_hash)
            if slot is None:
                run.cut(run.kept)
                return None
        elif not self.host.is_filled(block_hash):
            self._awaiting.setdefault(block_hash, []).append(run)
        self.host.pin(block_hash)
        run.kept += 1
        return slot

    def finish(self, block_hash: BlockHash, succeeded: bool, *, forget: bool = False) -> None:
        """The copy of a block is complete, or has failed."""
        self.note_progress(self._awaiting.pop(block_hash, ()))
        if succeeded:
            self.copied_blocks += 1
            self.host.fill(block_hash)
            self.host.unpin([block_hash], forget=forget)
            return
        for run in self._runs:
            if block_hash in run.block_hashes[: run.kept]:
                # Without the block, those behind it are of no use.
                position = run.block_hashes.index(block_hash)
                self.host.unpin(run.block_hashes[position + 1 : run.kept])
                run.cut(position)
        self.host.drop(block_hash)

    def readable_blocks(self, run: Run) -> int:
        """How many leading blocks of a run can be read."""
        return self.host.filled_run(run.block_hashes, 0, run.kept)

    def note_progress(self, runs: Iterable[Run]) -> None:
        """Runs have got further, or are at their end."""
        self._progressed |= dict.fromkeys(run.owner for run in runs if not run.closed)

    def take_progressed(self) -> list[str]:
        """Owners of the runs that have got further since the last call."""
        progressed, self._progressed = list(self._progressed), {}
        return progressed
