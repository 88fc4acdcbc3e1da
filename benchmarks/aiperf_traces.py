"""kv-cache-tester's traces, made small enough for a small model on CPU.

    python benchmarks/aiperf_traces.py TRACES OUT --divide 64 --requests 8 --traces 6

Each request keeps its place in its conversation: lengths are divided, and of its cached blocks
every so-manieth is kept, so that prompts share as large a part as they did. Sub-agents are left
out. What runs on these traces shows that the path works; it says nothing about the recorded load.
"""

import argparse
import json
from pathlib import Path
from typing import Any

SECONDS = 2.0
"""Between two requests at most."""


def shrunk(trace: dict[str, Any], divide: int, requests: int, max_tokens: int) -> dict[str, Any]:
    """A trace of the first requests that fit, with lengths divided."""
    small: list[dict[str, Any]] = []
    seconds = recorded = 0.0
    for request in trace["requests"]:
        if request["type"] not in ("n", "s") or len(small) == requests:
            continue
        length = max(1, request["in"] // divide)
        if length > max_tokens:
            break
        seconds += min(SECONDS, max(0.0, request["t"] - recorded)) if small else 0.0
        recorded = request["t"]
        blocks = request["hash_ids"][divide - 1 :: divide][: length // trace["block_size"]]
        output = max(2, request["out"] // divide)
        small.append(request | {"t": seconds, "in": length, "out": output, "hash_ids": blocks})
    # What all requests begin with has to be whole blocks of each of them.
    room = trace["block_size"] * min((len(r["hash_ids"]) for r in small), default=0)
    system = min(trace["system_tokens"] // divide, room)
    prefix = {
        "system_tokens": system,
        "tool_tokens": min(trace["tool_tokens"] // divide, room - system),
    }
    return trace | prefix | {"requests": small}


def main() -> None:
    """Write the traces."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", type=Path, help="folder of kv-cache-tester's trace_NNNN.json")
    parser.add_argument("out", type=Path)
    parser.add_argument("--divide", type=int, default=64)
    parser.add_argument("--requests", type=int, default=8, help="of each trace at most")
    parser.add_argument("--traces", dest="count", type=int, default=6)
    parser.add_argument("--max-tokens", type=int, default=1600, help="of a prompt")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    written = 0
    for path in sorted(options.traces.glob("trace_*.json")):
        trace = json.loads(path.read_text())
        small = shrunk(trace, options.divide, options.requests, options.max_tokens)
        if len(small["requests"]) < 2 or written == options.count:
            continue
        (options.out / path.name).write_text(json.dumps(small))
        written += 1
    print(f"{written} traces in {options.out}")


if __name__ == "__main__":
    main()
