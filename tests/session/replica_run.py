"""Servers that share a database, killed, frozen and restarted, and what is checked afterwards.

    python tests/session/replica_run.py FOLDER --sessions 200 --kills 60 --freezes 20 --drains 10

Each server is a forked process with the fake engine. What is checked is what `crash_run` checks:
nothing is lost, nothing with effects is done twice, and each transcript is that of an
uninterrupted session.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from caesura.session.agents import Agents
from caesura.session.errors import SessionClosed
from caesura.session.limits import Limits
from caesura.session.records import Protocol
from session import crash_run
from session.workplace import OWNER
from support.databases import places
from support.databases.server import postgres_server

REPLICAS = 3
_LEFT = (
    "SELECT (SELECT COUNT(*) FROM sessions WHERE phase = 'ended'),"
    " (SELECT COUNT(*) FROM calls WHERE state IN ('issued', 'dispatched'))"
)


@dataclass(frozen=True)
class Run:
    """What all servers of a run are told.

    Attributes:
        folder: where tools write.
        sessions: how many there are in all.
        seed: of what they do.
        lease_seconds: of a server.
    """

    folder: Path
    sessions: int
    seed: int
    lease_seconds: float


async def live(run: Run, place: int) -> None:
    """One server: make the sessions of its place that are missing, and run until all have ended
    or it is told to stop."""
    limits = Limits(open_sessions_per_owner=10**6, sessions_per_minute=10**6)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with crash_run.all_kinds(run.folder, limits, lease_seconds=run.lease_seconds) as work:
        agents = Agents(work)
        await agents.start()
        making = asyncio.create_task(make(agents, run, place))
        while not stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await stopping.wait()
            ((ended, left),) = await work.store._database.read(_LEFT)
            if ended == run.sessions and not left:
                break
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        await agents.stop()


async def make(agents: Agents, run: Run, place: int) -> None:
    known = {r.spec.metadata["index"] for r in await agents.sessions(OWNER, limit=10**6)}
    for made in crash_run.specs(run.sessions, run.seed):
        index = made.metadata["index"]
        if int(index) % REPLICAS != place or index in known:
            continue
        # Under an id of its own, so that it is made once, whatever became of the first try.
        agent = await agents.create(OWNER, made, session_id=f"sess_{run.seed}_{index}")
        if agent.spec.protocol is Protocol.CML and int(index) % 2:
            with suppress(SessionClosed):
                await agent.steer("and [this]")


def spawned(run: Run, place: int) -> int:
    """The process of a server."""
    child = os.fork()
    if child:
        return child
    try:
        asyncio.run(live(run, place))
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


class Servers:
    """The processes of a run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.lives = {place: spawned(run, place) for place in range(REPLICAS)}

    def are_over(self, wait_seconds: float = 0.0) -> bool:
        """Whether one has seen that all sessions are over.

        Args:
            wait_seconds: let so much time pass first.
        """
        time.sleep(wait_seconds)
        return self.reaped() < REPLICAS

    def reaped(self) -> int:
        """How many run still."""
        for place, child in [*self.lives.items()]:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                del self.lives[place]
                if status:
                    self.end()
                    raise SystemExit(f"a server failed: {os.waitstatus_to_exitcode(status)}")
        return len(self.lives)

    def end(self) -> None:
        for child in self.lives.values():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self.lives.clear()

    def replace(self, place: int, by: signal.Signals) -> None:
        """One ends, and another takes its place."""
        os.kill(self.lives[place], by)
        _, status = os.waitpid(self.lives[place], 0)
        if by is signal.SIGTERM and status:
            raise SystemExit("a server did not stop well")
        self.lives[place] = spawned(self._run, place)

    def freeze(self, place: int, seconds: float) -> None:
        """One stands still for a while, and does not know."""
        os.kill(self.lives[place], signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.lives[place], signal.SIGCONT)


def one_run(run: Run, troubles: list[str], chance: random.Random) -> Counter[str]:
    """Carry out troubles until all sessions are over; those that are done."""
    run.folder.mkdir(parents=True)
    crash_run.effect_file(run.folder).touch()
    servers, done = Servers(run), Counter[str]()
    try:
        while troubles and not servers.are_over(chance.uniform(0.05, 0.5)):
            place, trouble = chance.randrange(REPLICAS), troubles.pop()
            if trouble == "kill":
                servers.replace(place, signal.SIGKILL)
            elif trouble == "drain":
                servers.replace(place, signal.SIGTERM)
            else:
                servers.freeze(place, run.lease_seconds * chance.uniform(0.5, 3))
            done[f"{trouble}s"] += 1
        deadline = time.monotonic() + 120
        while servers.reaped():
            assert time.monotonic() < deadline, "the sessions do not end"
            time.sleep(0.05)
    finally:
        servers.end()
    return done + asyncio.run(crash_run.check(run.folder, run.sessions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--freezes", type=int, default=20)
    parser.add_argument("--drains", type=int, default=0)
    parser.add_argument("--lease", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, total, runs = random.Random(options.seed), Counter[str](), 0
    troubles = ["kill"] * options.kills + ["freeze"] * options.freezes + ["drain"] * options.drains
    chance.shuffle(troubles)
    began = time.monotonic()
    with postgres_server() as server:
        while troubles:
            schema = server.address(f"run_{runs}")
            places.are_at(lambda _, schema=schema: schema)
            run = Run(
                options.folder / str(runs), options.sessions, options.seed + runs, options.lease
            )
            total += one_run(run, troubles, chance)
            runs += 1
    seconds = time.monotonic() - began
    print(f"{runs} runs in {seconds:.0f} s:", ", ".join(f"{n} {what}" for what, n in total.items()))


if __name__ == "__main__":
    main()
