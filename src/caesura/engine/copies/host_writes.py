"""Copies that are being written to host memory, and the contexts that rely on them.

run   | kept: pinned, some still being written | to be kept |
^ `kept`     ^ end of `keys`
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from caesura.engine.copies.groups import HostKey
from caesura.engine.copies.host_pool import HostPool


@dataclass(slots=True, eq=False)
class Run:
    """Consecutive blocks of a context that host memory keeps, or is to keep.

    Attributes:
        owner: the id of the paused context or of the request that they belong to.
        keys: what the blocks are found by.
        kept: how many leading blocks have a copy that is pinned for the run.
        closed: nobody relies on it any more.
    """

    owner: str
    keys: list[HostKey]
    kept: int = 0
    closed: bool = False

    @property
    def whole(self) -> bool:
        """Whether no block is left to be kept."""
        return self.kept >= len(self.keys)

    def cut(self, end: int) -> None:
        """Keep nothing from block `end` on."""
        del self.keys[end:]
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
    _awaiting: dict[HostKey, list[Run]] = field(default_factory=dict, init=False)
    # Owners, in the order of the events.
    _progressed: dict[str, None] = field(default_factory=dict, init=False)

    def open(self, run: Run) -> None:
        """Keep blocks for a run until it is closed."""
        self._runs[run] = None

    def close(self, run: Run, *, forget: bool = False) -> None:
        """Rely on a run no longer. With `forget` its copies are the first to be replaced."""
        del self._runs[run]
        self.host.unpin(run.keys[: run.kept], forget=forget)
        run.kept = 0
        run.closed = True

    def keep_next(self, run: Run) -> int | None:
        """Keep the next block of a run.

        Returns:
            The slot that the block has to be copied to, pinned until `finish`. None if there is
            a copy or another is making one; and None if host memory is full of copies that
            others rely on, where the run ends.
        """
        key, slot = run.keys[run.kept], None
        if key not in self.host:
            slot = self.host.reserve(key)
            if slot is None:
                run.cut(run.kept)
                return None
        elif not self.host.is_filled(key):
            self._awaiting.setdefault(key, []).append(run)
        self.host.pin(key)
        run.kept += 1
        return slot

    def finish(self, key: HostKey, succeeded: bool, *, forget: bool = False) -> None:
        """The copy of a block is complete, or has failed."""
        self.note_progress(self._awaiting.pop(key, ()))
        if succeeded:
            self.copied_blocks += 1
            self.host.fill(key)
            self.host.unpin([key], forget=forget)
            return
        for run in self._runs:
            if key in run.keys[: run.kept]:
                # Without the block, those behind it are of no use.
                position = run.keys.index(key)
                self.host.unpin(run.keys[position + 1 : run.kept])
                run.cut(position)
        self.host.drop(key)

    def readable_blocks(self, run: Run) -> int:
        """How many leading blocks of a run can be read."""
        kept = run.keys[: run.kept]
        return next((i for i, key in enumerate(kept) if not self.host.is_filled(key)), run.kept)

    def note_progress(self, runs: Iterable[Run]) -> None:
        """Runs have got further, or are at their end."""
        self._progressed |= dict.fromkeys(run.owner for run in runs if not run.closed)

    def take_progressed(self) -> list[str]:
        """Owners of the runs that have got further since the last call."""
        progressed, self._progressed = list(self._progressed), {}
        return progressed
