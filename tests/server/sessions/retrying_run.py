"""A server that is killed again and again, and clients that send again what was not answered.

    python tests/server/sessions/retrying_run.py FOLDER --sessions 50 --kills 200 --seed 0 --faults

As `tests/session/crash_run.py`, with the clients outside of what is killed: they know of a session
only what they were answered, and send every request with an `Idempotency-Key` until it is
answered. Now and then they send again what was answered already.

With `--faults` the disk is full now and then, files reach their longest size, the database's thread
has no memory, and the machine's clock jumps, forwards and backwards, by up to some hours.
"""

import argparse
import asyncio
import os
import random
import resource
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import httpx
import uvicorn

from caesura.server.owners import ANONYMOUS
from caesura.server.sessions.service import Service
from caesura.server.settings import ServerSection
from caesura.session import agent, left_calls
from caesura.session.agents import Agents
from caesura.session.database import Statement
from caesura.session.database.sqlite import SqliteConnection
from caesura.session.limits import Limits
from caesura.session.records import EventType, Protocol, SessionSpec
from caesura.session.store import Store
from caesura.session.store.clock import SteadyClock
from server.served import MODEL, QuietServer, application
from session.crash_run import all_kinds, check, killed_after, specs

STEERING = "and [this]"
AT_ONCE = 8
NO_LIMITS = Limits(open_sessions_per_owner=10**6, sessions_per_minute=10**6)


class Faults:
    """What goes wrong around a server, at random.

    Args:
        chance: draws.
    """

    MOST = 40  # in one life, so that it comes to an end
    LONGEST_JUMP_SECONDS = 6 * 3600.0  # keys of requests are kept for a day

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._offset_seconds = self._jump()
        self._out_of_memory = False
        wall, carry_out = time.time, SqliteConnection._carry_out_one
        time.time = lambda: wall() + self._offset_seconds
        agent.STORE_RETRY_SECONDS = left_calls.RETRY_SECONDS = 0.02

        def carried_out(*job: Any) -> int | Exception:
            if self._out_of_memory and chance.random() < 0.5:
                raise MemoryError
            outcome = carry_out(*job)
            if self._out_of_memory and chance.random() < 0.5:
                raise MemoryError
            return outcome

        SqliteConnection._carry_out_one = carried_out

    def _jump(self) -> float:
        return self._chance.uniform(-1, 1) * self.LONGEST_JUMP_SECONDS

    async def happen(self, store: Store) -> None:
        """One after the other, each for a moment."""
        kinds = (self._disk_full, self._files_full, self._no_memory, self._clock_set)
        for _ in range(self.MOST):
            await asyncio.sleep(self._chance.uniform(0, 0.05))
            async with self._chance.choice(kinds)(store):
                await asyncio.sleep(self._chance.uniform(0, 0.05))

    @asynccontextmanager
    async def _disk_full(self, store: Store) -> AsyncIterator[None]:
        ((pages,),) = await store._database.read("PRAGMA page_count")
        await store.commit(Statement(f"PRAGMA max_page_count = {pages}"))
        yield
        await store.commit(Statement(f"PRAGMA max_page_count = {2**30}"))

    @asynccontextmanager
    async def _files_full(self, store: Store) -> AsyncIterator[None]:
        path = store._database._backend.path
        size = max(path.with_name(path.name + end).stat().st_size for end in ("", "-wal"))
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    @asynccontextmanager
    async def _no_memory(self, store: Store) -> AsyncIterator[None]:
        self._out_of_memory = True
        yield
        self._out_of_memory = False

    @asynccontextmanager
    async def _clock_set(self, store: Store) -> AsyncIterator[None]:
        self._offset_seconds = self._jump()
        yield


async def live(folder: Path, listener: socket.socket, faults_seed: int | None) -> None:
    """One life of the server: until the clients have all they want."""
    faults = None if faults_seed is None else Faults(random.Random(f"{faults_seed} {os.getpid()}"))
    clock = SteadyClock()  # as the server has it
    async with all_kinds(folder, NO_LIMITS, clock) as work:
        agents = Agents(work)
        await agents.start()
        if faults is not None:
            happening = asyncio.create_task(faults.happen(work.store))
        settings, path = ServerSection(), folder / "caesura.db"
        service = Service(agents, work.store, work.executor, settings, (MODEL,), path)
        config = uvicorn.Config(application(service, []), log_level="error", lifespan="off")
        config.load()
        server = QuietServer(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        # Another process says so.
        while not (folder / "told").exists() or await work.store.left_calls():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if faults is not None:
            await happening
        server.should_exit = True
        await serving
        await agents.stop()


class Clients:
    """What the clients do; their requests are answered sooner or later.

    Args:
        url: of the server.
        seed: of what they draw.
    """

    def __init__(self, url: str, seed: int) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=60)
        self._chance = random.Random(seed)
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def use(self, spec: SessionSpec) -> str:
        """Make a session, steer it, and read it to its end; its id."""
        index = spec.metadata["index"]
        async with self._limit:
            body = spec.model_dump(mode="json", exclude_unset=True)
            made = await self._post("/v1/sessions", body, f"make {index}", 201)
            path = f"/v1/sessions/{made['id']}"
            if made["protocol"] == Protocol.CML and int(index) % 2:
                await self._post(
                    f"{path}/messages", {"content": STEERING}, f"say {index}", 202, 409
                )
            while (await self._answered("GET", path))["phase"] != "ended":
                events = {"after": 0, "stream": False, "wait_seconds": 1}
                await self._answered("GET", f"{path}/events", params=events)
        return str(made["id"])

    async def _post(self, path: str, body: object, key: str, *statuses: int) -> dict[str, Any]:
        headers = {"Idempotency-Key": key}
        answers = []
        for _ in range(self._chance.choice((1, 1, 2))):
            answer = await self._answered("POST", path, json=body, headers=headers)
            assert answer["status"] in statuses, answer
            answers.append(answer.get("id"))
        assert len(set(answers)) == 1, f"{key} was carried out twice"
        return answer

    async def _answered(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The answer, whose status is put to it; lost ones are asked for again."""
        while True:
            try:
                answer = await self._client.request(method, path, **request)
            except httpx.TransportError:
                continue  # the next server takes the connection
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                assert answer.headers["retry-after"]
                await asyncio.sleep(0.01)
                continue
            return {**answer.json(), "status": answer.status_code}


async def use_all(folder: Path, url: str, sessions: int, seed: int) -> None:
    """All clients; leaves the ids of the sessions in a file in the end."""
    clients = Clients(url, seed)
    ids = await asyncio.gather(*(clients.use(spec) for spec in specs(sessions, seed)))
    (folder / "told.partial").write_text("\n".join(ids))
    (folder / "told.partial").rename(folder / "told")


async def check_all(folder: Path, sessions: int) -> Counter[str]:
    """The checks of `crash_run`, and that clients and server know the same sessions.

    Raises:
        AssertionError: something is lost, or was done twice.
    """
    counts = await check(folder, sessions, ANONYMOUS)
    told = (folder / "told").read_text().split()
    async with all_kinds(folder) as work:
        records = await Agents(work).sessions(ANONYMOUS, limit=10**6)
        assert sorted(record.id for record in records) == sorted(told)
        for record in records:
            events = await work.store.events(record.id)
            said = [event for event in events if event.type is EventType.MESSAGE]
            steered = [event for event in said if event.data["content"] == STEERING]
            assert len(steered) <= 1, f"said twice to {record.id}"
            counts["messages"] += len(steered)
    return counts


def clients_process(folder: Path, url: str, sessions: int, seed: int) -> int:
    """Fork the clients; their process."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(use_all(folder, url, sessions, seed))
            os._exit(0)
        except BaseException as error:
            print(f"the clients failed: {error!r}", file=sys.stderr, flush=True)
            (folder / "told").touch()
            os._exit(1)
    return child


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    kills = runs = 0
    total: Counter[str] = Counter()
    while kills < options.kills:
        folder = options.folder / str(runs)
        folder.mkdir(parents=True)
        # It outlives the servers: connections wait in it for the next one.
        with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            clients = clients_process(folder, url, options.sessions, options.seed + runs)
            seed = options.seed + runs if options.faults else None
            life = partial(live, folder, listener, seed)
            try:
                while kills < options.kills and killed_after(chance.uniform(0.0, 0.8), life):
                    kills += 1
                if killed_after(600.0, life):
                    raise SystemExit("the clients are not done")
            except BaseException:
                os.kill(clients, signal.SIGKILL)
                raise
            finally:
                _, status = os.waitpid(clients, 0)
            if status:
                raise SystemExit("the clients failed")
        total += asyncio.run(check_all(folder, options.sessions))
        runs += 1
    print(f"{kills} kills in {runs} runs:", ", ".join(f"{n} {what}" for what, n in total.items()))


if __name__ == "__main__":
    main()
