"""How many commits a second the store makes, for many sessions at once.

    python benchmarks/database/run.py --sessions 1,50,200 --seconds 5

On SQLite, and on a private server of PostgreSQL on the same machine, which writes to disk as it
does by default. A commit has what a turn has: tokens, the phase, an event.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "tests"), str(Path(__file__).parents[2] / "src")]

from caesura.session.records import (  # noqa: E402
    Event,
    EventType,
    Phase,
    SessionRecord,
    SessionSpec,
)
from caesura.session.replicas import Replicas, Served  # noqa: E402
from caesura.session.store import Store  # noqa: E402
from support.databases.server import postgres_server  # noqa: E402

ON_DISK = ("fsync=on", "synchronous_commit=on")


async def commits_per_second(where: Path | str, sessions: int, seconds: float) -> float:
    """As many as there are while so many sessions write, each after the other."""
    store = Store(where)
    replicas = None
    if store.is_shared:
        replicas = Replicas(store.backend, Served("a model", "demo", (), "http://here"))
        await replicas.begin()
    spec = SessionSpec(messages=[{"role": "user", "content": "hello"}])
    done = 0

    async def turns(session_id: str, until: float) -> None:
        nonlocal done
        record = SessionRecord(
            session_id, "somebody", spec, Phase.GENERATING, False, 0, None, None, 1, 0, 0
        )
        await store.commit(store.add_session(record))
        turn = 0
        while time.monotonic() < until:
            turn += 1
            event = Event(turn, EventType.OUTPUT, {"text": "x" * 200}, store.clock())
            await store.commit(
                store.add_tokens(session_id, 50 * turn, range(50)),
                store.set_phase(session_id, Phase.CALLING, turn),
                store.add_event(session_id, event),
            )
            done += 1

    began = time.monotonic()
    names = [f"sess_{sessions}_{number}" for number in range(sessions)]
    await asyncio.gather(*[turns(name, began + seconds) for name in names])
    rate = done / (time.monotonic() - began)
    if replicas is not None:
        await replicas.leave()
    store.close()
    return rate


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", default="1,50,200")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, postgres_server(*ON_DISK) as server:
        places = {"SQLite": Path(folder) / "db", "PostgreSQL": server.address("commits")}
        for kind, where in places.items():
            for sessions in map(int, options.sessions.split(",")):
                rate = asyncio.run(commits_per_second(where, sessions, options.seconds))
                print(f"{kind}, {sessions} sessions: {rate:,.0f} commits/s", flush=True)


if __name__ == "__main__":
    main()
