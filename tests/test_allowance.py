"""Limits of containers, as both versions of control groups have them."""

import os
from pathlib import Path

import psutil
import pytest

from caesura import allowance
from caesura.engine.config import check_host_memory
from caesura.errors import ConfigurationError

MIB = 2**20
V2 = "0::{path}\n"
V1 = "5:memory:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::/\n"


class Machine:
    """A machine's files of control groups, below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.proc = folder / "proc"
        self.proc.mkdir()
        self.mounts = ["22 1 8:1 / / rw - ext4 /dev/sda1 rw"]

    def is_in(self, form: str, path: str = "/") -> None:
        (self.proc / "cgroup").write_text(form.format(path=path))

    def mount(self, name: str, kind: str, root: str = "/", options: str = "rw") -> Path:
        place = self.folder / name
        place.mkdir()
        escaped = str(place).replace(" ", r"\040")
        self.mounts.append(
            f"30 22 0:26 {root} {escaped} ro,nosuid shared:9 - {kind} {kind} {options}"
        )
        (self.proc / "mountinfo").write_text("\n".join(self.mounts))
        return place


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(allowance, "PROC", made.proc)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    return made


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_a_container_of_version_2_sees_its_own_group_as_the_root(machine: Machine) -> None:
    machine.is_in(V2)
    root = machine.mount("a cgroup", "cgroup2")
    write(
        root,
        memory__max=f"{512 * MIB}\n",
        memory__current=f"{200 * MIB}\n",
        memory__stat=f"anon 1\ninactive_file {50 * MIB}\n",
        cpu__max="250000 100000\n",
    )
    assert allowance.memory() == allowance.Memory(512 * MIB, 362 * MIB, True)
    assert allowance.cores() == 2


def test_the_least_of_nested_groups_counts(machine: Machine) -> None:
    machine.is_in(V2, "/pod/container")
    root = machine.mount("cgroup", "cgroup2")
    write(root / "pod/container", memory__max="max\n", cpu__max="max 100000\n")
    write(root / "pod", memory__max=f"{256 * MIB}\n", cpu__max="50000 100000\n")
    write(root, memory__max=f"{512 * MIB}\n", memory__current=f"{500 * MIB}\n")
    assert allowance.memory() == allowance.Memory(256 * MIB, 12 * MIB, True)
    assert allowance.cores() == 1  # half of one, and never none


def test_version_1_has_a_hierarchy_for_each_controller(machine: Machine) -> None:
    machine.is_in(V1, "/docker/abc")
    memory = machine.mount("memory", "cgroup", "/docker/abc", "rw,memory")
    cpu = machine.mount("cpu,cpuacct", "cgroup", "/docker/abc", "rw,cpu,cpuacct")
    write(
        memory,
        memory__limit_in_bytes=f"{300 * MIB}\n",
        memory__usage_in_bytes=f"{100 * MIB}\n",
        memory__stat=f"inactive_file 7\ntotal_inactive_file {10 * MIB}\n",
    )
    write(cpu, cpu__cfs_quota_us="300000\n", cpu__cfs_period_us="100000\n")
    assert allowance.memory() == allowance.Memory(300 * MIB, 210 * MIB, True)
    assert allowance.cores() == 3


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", "", "nonsense\n", "-1\n"])
def test_no_limit_is_the_machine(machine: Machine, text: str) -> None:
    machine.is_in(V2)
    root = machine.mount("cgroup", "cgroup2")
    if text != "-1\n":
        write(root, memory__max=text)
    write(root, cpu__max="max 100000\n", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    found = allowance.memory()
    assert (found.total_bytes, found.is_limited) == (psutil.virtual_memory().total, False)
    assert found.free_bytes <= found.total_bytes
    assert allowance.cores() == 8


def test_a_group_that_cannot_be_seen_is_none(machine: Machine) -> None:
    machine.is_in(V2, "/../other")
    root = machine.mount("cgroup", "cgroup2")
    write(root.parent / "other", memory__max=f"{MIB}\n")
    assert not allowance.memory().is_limited


def test_without_control_groups_there_is_the_machine(machine: Machine) -> None:
    assert not allowance.memory().is_limited
    assert allowance.cores() == 8


def test_host_memory_must_fit_into_the_container(machine: Machine) -> None:
    machine.is_in(V2)
    write(machine.mount("cgroup", "cgroup2"), memory__max=f"{512 * MIB}\n")
    check_host_memory(512 * MIB)
    with pytest.raises(ConfigurationError, match="512 MiB"):
        check_host_memory(513 * MIB)
