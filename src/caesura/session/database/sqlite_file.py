"""The file of a database: private, safe from others' hands, and used by one server at a time."""

import fcntl
import logging
import os
import stat
from pathlib import Path

import psutil

from caesura.errors import ConfigurationError

logger = logging.getLogger(__name__)

# Where locks or shared memory do not work as a database in WAL mode needs them.
_REMOTE = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "ocfs2", "smb3", "smbfs", "virtiofs", "wekafs"}
)


def claim(path: Path) -> int:
    """Create the file if it does not exist, and lock it until the result is closed.

    The file itself is locked, so that it does not matter by which of its names or mounts another
    server comes. Nobody else may read it: it has conversations and results of tools.

    Args:
        path: the file, without links.

    Returns:
        A file descriptor, to be closed after the database. (Closing any descriptor of the file
        before would end SQLite's own locks.)

    Raises:
        ConfigurationError: it cannot be used; says why and what to do.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_safe(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"cannot use the database {path}: {error.strerror}; choose another with "
            "sessions.database"
        ) from error
    try:
        _lock(descriptor, path)
        _make_private(path)
    except BaseException:
        os.close(descriptor)
        raise
    if (kind := _file_system(path)) in _REMOTE or kind.startswith("fuse"):
        logger.warning(
            "the database %s is on a %s file system: SQLite can lose or damage data there; choose "
            "a local disk with sessions.database",
            path,
            kind,
        )
    return descriptor


def _require_safe(folder: Path) -> None:
    """See that nobody else can put a file of theirs in the place of ours."""
    found = folder.stat()
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(
            f"the folder {folder} of the database belongs to another user (uid {found.st_uid}): "
            "choose a folder of your own with sessions.database"
        )
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise ConfigurationError(
            f"everybody can write to the folder {folder} of the database: chmod o-w {folder}, or "
            "choose another with sessions.database"
        )


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(
            f"the database {path} is used by another server: stop it, or choose another with "
            "sessions.database"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"cannot lock {path} ({error.strerror}): choose a local disk with sessions.database"
        ) from error


def _make_private(path: Path) -> None:
    """Take away what others may do with the file and with those that SQLite keeps beside it."""
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
            if mode & 0o077:
                file.chmod(mode & 0o700)
                logger.warning("others could use %s: now only its owner can", file)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigurationError(
                f"others can use {file}, and that cannot be changed: {error.strerror}; choose "
                "another database with sessions.database"
            ) from error


def _file_system(path: Path) -> str:
    """The type of the file system that has a file; empty if it is not known."""
    mounts = {
        Path(mount.mountpoint): mount.fstype
        for mount in psutil.disk_partitions(all=True)
        if path.is_relative_to(mount.mountpoint)
    }
    return mounts[max(mounts, key=lambda mount: len(mount.parts))] if mounts else ""
