"""A private server of PostgreSQL, for as long as the tests run."""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_DEBIAN = Path("/usr/lib/postgresql")
HOW = "PostgreSQL is not there: apt-get install postgresql, and pip install 'caesura[postgres]'"
# Nothing of it is to survive a crash of the machine.
_HASTY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@cache
def programs() -> Path | None:
    """The folder of PostgreSQL's programs; None if something is missing."""
    if find_spec("psycopg") is None:
        return None
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(_DEBIAN.glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


@dataclass
class PostgresServer:
    """A server with one database, in which each place has a schema of its own.

    Attributes:
        folder: its data and its socket.
        settings: of the server, beside the usual ones.
    """

    folder: Path
    settings: tuple[str, ...] = _HASTY
    _made: set[str] = field(default_factory=set)

    def initialise(self) -> None:
        """Make its data."""
        options = ("-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        self._run("initdb", *options)

    def start(self) -> None:
        """Begin to serve."""
        settings = (
            f"unix_socket_directories={self.folder}",
            "listen_addresses=",
            "max_connections=300",
            "shared_buffers=64MB",
            *self.settings,
        )
        options = " ".join(f"-c {setting}" for setting in settings)
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """End it."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def address(self, schema: str | None = None) -> str:
        """Where it is; with a schema that is made if there is none."""
        import psycopg

        server = f"postgresql://postgres@/postgres?host={self.folder}"
        if schema is None:
            return server
        if schema not in self._made:
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}".encode())
            self._made.add(schema)
        return f"{server}&options=-csearch_path%3D{schema}"

    def place(self, path: Path) -> str:
        """The address that stands for a file: the same for the same file."""
        return self.address(f"s{hashlib.sha256(str(path).encode()).hexdigest()[:16]}")

    def _run(self, program: str, *arguments: str) -> None:
        found = programs()
        assert found is not None
        command = [str(found / program), "-D", str(self.folder / "data"), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, **_user()
        )
        log = self.folder / "log"
        text = log.read_text() if log.exists() else ""
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}{text}"


def _user() -> dict[str, object]:
    """PostgreSQL does not run as root."""
    if os.geteuid():
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def postgres_server(*settings: str) -> Iterator[PostgresServer]:
    """A server that runs.

    Args:
        settings: of the server; by default nothing it writes need survive.
    """
    # Not below pytest's folders: those are nobody else's to enter.
    folder = Path(tempfile.mkdtemp(prefix="caesura-pg-"))
    try:
        user = _user()
        if user:
            os.chown(folder, user["user"], user["group"])
        server = PostgresServer(folder, settings or _HASTY)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
