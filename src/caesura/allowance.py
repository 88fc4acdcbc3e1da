"""What this process may use of its machine: memory and cores, with the limits of its container.

Control groups bound both, and so does every group above them. In a container one sees its own as
the root; without a namespace of its own a process names the path of its group. Neither `psutil`
nor `os.sched_getaffinity` looks at them.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

PROC = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory that this process may use.

    Attributes:
        total_bytes: all of it.
        free_bytes: what is free, or can be freed at once.
        is_limited: a control group allows less than the machine has.
    """

    total_bytes: int
    free_bytes: int
    is_limited: bool


def memory() -> Memory:
    """The machine's memory, or less where a control group has a limit."""
    machine = psutil.virtual_memory()
    total_bytes, free_bytes = machine.total, machine.available
    for group in _groups("memory"):
        limit_bytes = group.number("memory.max", "memory.limit_in_bytes")
        if limit_bytes is None or limit_bytes >= machine.total:
            continue  # version 1 writes "no limit" as a large number
        used_bytes = group.number("memory.current", "memory.usage_in_bytes") or 0
        # Pages of files that nobody has used lately are counted, and are given up when needed.
        used_bytes -= group.statistic("memory.stat", "inactive_file")
        total_bytes = min(total_bytes, limit_bytes)
        free_bytes = min(free_bytes, limit_bytes - max(0, used_bytes))
    return Memory(total_bytes, max(0, free_bytes), total_bytes < machine.total)


def visible_cores() -> int:
    """Cores that this process may run on, however much of their time it gets."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores() -> int:
    """Cores whose time this process gets: of a quota of 2.5 two, and always one."""
    found = float(visible_cores())
    for group in _groups("cpu"):
        quota, period = group.words("cpu.max")
        if quota is None:
            quota, _ = group.words("cpu.cfs_quota_us")
            period, _ = group.words("cpu.cfs_period_us")
        if quota is None or period is None or quota <= 0 or period <= 0:
            continue
        found = min(found, quota / period)
    return max(1, math.floor(found))


@dataclass(frozen=True, slots=True)
class _Group:
    """A control group's folder, of either version."""

    folder: Path

    def words(self, name: str) -> tuple[int | None, int | None]:
        """The first two numbers of a file; None where there are none, or there is no limit."""
        try:
            words = (self.folder / name).read_text("ascii").split()
        except (OSError, ValueError):
            return None, None
        numbers = [int(word) if word.lstrip("-").isdecimal() else None for word in words[:2]]
        return tuple((*numbers, None, None)[:2])  # type: ignore[return-value]

    def number(self, *names: str) -> int | None:
        """The number in the first of these files that there is."""
        return next((found for name in names if (found := self.words(name)[0]) is not None), None)

    def statistic(self, file: str, name: str) -> int:
        """A line of a file of statistics; version 1 has sums over groups below as `total_`."""
        try:
            lines = (self.folder / file).read_text("ascii").splitlines()
        except (OSError, ValueError):
            return 0
        found = dict(line.split(maxsplit=1) for line in lines if " " in line)
        return int(found.get(f"total_{name}", found.get(name, "0")))


def _groups(controller: str) -> Iterator[_Group]:
    """The groups of this process with that controller, and all above them."""
    try:
        mounts = (PROC / "mountinfo").read_text("utf-8").splitlines()
        lines = (PROC / "cgroup").read_text("utf-8").splitlines()
    except OSError:
        return  # not Linux
    # "hierarchy:controllers:path", where version 2 names no controllers.
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    for mount in mounts:
        fields, _, kinds = mount.partition(" - ")
        root, place = map(_unescaped, fields.split()[3:5])
        kind, _, options = kinds.split(" ", 2)
        if kind == "cgroup2":
            path = paths.get("")
        elif kind == "cgroup" and controller in options.split(","):
            named = (name for name in paths if controller in name.split(","))
            path = paths.get(next(named, ""))
        else:
            continue
        if path is not None:
            yield from _upwards(Path(place), root, path)


def _upwards(place: Path, root: str, path: str) -> Iterator[_Group]:
    """The groups from that of the process to the one that is mounted."""
    own = PurePosixPath(path)
    below = own.relative_to(root) if own.is_relative_to(root) else PurePosixPath()
    for part in (below, *below.parents):
        if ".." not in part.parts:  # a group outside of what can be seen
            yield _Group(place / part)


def _unescaped(text: str) -> str:
    """A path of mountinfo, which has spaces and the like as octal numbers."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape")
