"""How long large request bodies keep everybody else waiting, and how much memory they take.

    python benchmarks/large_bodies.py OUT.json [--repeat 5]

Routes, sessions, store and tools are the server's own, over HTTP; the model is one of the tests.
Each body is as large as `server.body_limit` allows, and is sent by another process. Meanwhile the
server's event loop sleeps 5 ms again and again: what it oversleeps is what every other client
waits. The first row is a small body, for comparison.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from caesura.lab.results_file import Origin, write_results
from caesura.server.settings import ServerSection

TESTS = Path(__file__).parent.parent / "tests"
LIMIT_BYTES = ServerSection().body_limit
CONTEXT_TOKENS = 32_768
SLEEP_SECONDS = 0.005
SEND = """
import http.client, sys
host, port, path, file = sys.argv[1:]
with open(file, "rb") as body:
    connection = http.client.HTTPConnection(host, int(port), timeout=120)
    connection.request("POST", path, body.read(), {"Content-Type": "application/json"})
    print(connection.getresponse().status)
"""
MESSAGE = b'{"messages":[{"role":"user","content":'
SESSIONS, CHAT = "/v1/sessions", "/v1/chat/completions"


@dataclass(frozen=True)
class Row:
    """A body and what it did.

    Attributes:
        body: what it holds.
        route: where it was sent.
        size_mib: its size.
        status: of the answer.
        longest_gap_ms: the longest that the event loop was late, in each repetition.
        busy_ms: what the process computed in that time: the rest it waited for the machine.
        memory_mib: what the process took in addition, at most.
    """

    body: str
    route: str
    size_mib: float
    status: int
    longest_gap_ms: list[float]
    busy_ms: list[float]
    memory_mib: float


def filled(begin: bytes, unit: bytes, end: bytes, separator: bytes = b",") -> bytes:
    """A body of nearly the limit in which a unit is repeated."""
    count = (LIMIT_BYTES - len(begin) - len(end)) // (len(unit) + len(separator))
    return begin + separator.join([unit] * count) + end


BODIES = {
    "a short message": (SESSIONS, MESSAGE + b'"hi"}]}'),
    "empty messages": (
        SESSIONS,
        filled(b'{"messages":[', b'{"role":"user","content":""}', b"]}"),
    ),
    "wrong messages": (SESSIONS, filled(b'{"messages":[', b'{"role":"u"}', b"]}")),
    "empty lists in a field": (SESSIONS, filled(MESSAGE + b'"x","m":[', b"[]", b"]}]}")),
    "wrong messages with caesura.tools": (
        CHAT,
        filled(b'{"caesura":{"tools":[]},"messages":[', b'{"role":"u"}', b"]}"),
    ),
    "one text": (SESSIONS, filled(MESSAGE + b'"', b"lorem ipsum ", b'"}]}', b"")),
    "one text of escapes": (SESSIONS, filled(MESSAGE + b'"', b'\\"', b'"}]}', b"")),
    "brackets without end": (SESSIONS, b"[" * LIMIT_BYTES),
    "not JSON": (SESSIONS, b'"' * LIMIT_BYTES),
}


async def main() -> None:
    """Send each body, and write down what it did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    chosen = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    from server.served import served

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (route, body) in BODIES.items():
            (file := Path(folder) / "body").write_bytes(body)
            gaps, busy, most, status = [], [], 0, 0
            for number in range(chosen.repeat):
                database = Path(folder) / f"{len(rows)}-{number}.db"
                async with served(
                    database, body_limit=LIMIT_BYTES, context_tokens=CONTEXT_TOKENS
                ) as server:
                    status, gap, computed, memory = await sent(server.url, route, file)
                gaps.append(round(gap * 1e3, 1))
                busy.append(round(computed * 1e3, 1))
                most = max(most, memory)
            size_mib = round(len(body) / 2**20, 3)
            rows.append(Row(name, route, size_mib, status, gaps, busy, round(most / 2**20, 1)))
            print(rows[-1], flush=True)
    command = f"python benchmarks/large_bodies.py {chosen.out} --repeat {chosen.repeat}"
    write_results(chosen.out, Origin(command), {"rows": [asdict(row) for row in rows]})


async def sent(url: str, route: str, file: Path) -> tuple[int, float, float, int]:
    """Status, longest gap in seconds, what was computed in it, and memory in bytes."""
    host, _, port = url.removeprefix("http://").partition(":")
    me = psutil.Process(os.getpid())
    before, gap, busy, memory = me.memory_info().rss, 0.0, 0.0, 0
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SEND, host, port, route, str(file), stdout=subprocess.PIPE
    )
    answer = asyncio.ensure_future(client.communicate())
    while not answer.done():
        begun, computed = time.perf_counter(), time.process_time()
        await asyncio.sleep(SLEEP_SECONDS)
        late = time.perf_counter() - begun - SLEEP_SECONDS
        if late > gap:
            gap, busy = late, time.process_time() - computed
        memory = max(memory, me.memory_info().rss - before)
    return int(answer.result()[0]), gap, busy, memory


if __name__ == "__main__":
    asyncio.run(main())
