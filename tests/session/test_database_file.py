"""The file of a database: private, in a safe folder, used by one server."""

import errno
import fcntl
import logging
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from caesura.errors import ConfigurationError
from caesura.session.store import Store

ON_EACH_DATABASE = False  # it is about SQLite's file


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_nobody_else_can_read_the_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = Store(tmp_path / "new" / "db")
        await store.commit(store.drop_messages("s"))
        assert modes(tmp_path / "new") == {"db": 0o600, "db-wal": 0o600, "db-shm": 0o600}
        assert modes(tmp_path)["new"] == 0o700
        store.close()
    finally:
        os.umask(before)


def test_a_file_that_others_could_read_is_made_private(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("db", "db-wal", "db-shm"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o666)
    Store(tmp_path / "db").close()
    assert modes(tmp_path)["db"] == 0o600
    assert sum("now only its owner can" in message for message in caplog.messages) == 3


@pytest.mark.parametrize(("mode", "allowed"), [(0o777, False), (0o1777, True), (0o775, True)])
def test_a_folder_that_everybody_can_write_to(tmp_path: Path, mode: int, allowed: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    if allowed:
        Store(folder / "db").close()
    else:
        with pytest.raises(ConfigurationError, match="everybody can write"):
            Store(folder / "db")


def test_a_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 4711)
    if owner == 0:
        Store(tmp_path / "db").close()
        os.chown(tmp_path, 4712, -1)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        Store(tmp_path / "db")


@pytest.mark.parametrize("kind", ["same", "symbolic", "hard"])
def test_a_second_server_is_refused_by_whatever_name_it_comes(tmp_path: Path, kind: str) -> None:
    store = Store(tmp_path / "db")
    other = tmp_path / ("db" if kind == "same" else "other")
    if kind == "symbolic":
        other.symlink_to("db")
    elif kind == "hard":
        other.hardlink_to(tmp_path / "db")
    with pytest.raises(ConfigurationError, match="used by another server"):
        Store(other)
    store.close()
    Store(other).close()


def test_a_disk_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))  # as some network file systems do

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ConfigurationError, match=r"cannot lock .*No locks available.*local disk"):
        Store(tmp_path / "db")


@pytest.mark.parametrize(
    ("kind", "warned"), [("nfs4", True), ("fuse.sshfs", True), ("ext4", False)]
)
def test_a_network_file_system_is_warned_of(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    warned: bool,
) -> None:
    mounts = [("/", "ext4"), (str(tmp_path), kind), (str(tmp_path / "deeper"), "tmpfs")]
    found = [SimpleNamespace(mountpoint=point, fstype=fstype) for point, fstype in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: found)
    Store(tmp_path / "db").close()
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [kind in record.getMessage() for record in told] == ([True] if warned else [])
