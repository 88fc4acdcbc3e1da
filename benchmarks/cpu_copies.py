"""Host copies on CPU: between iterations, or in a thread beside the computation?

    .venv/bin/python benchmarks/cpu_copies.py OUT.json

An iteration is a matrix product of about 10 ms on one thread. With each iteration a batch of
blocks of the demo model (384 KiB over 4 layers) is copied out, by `BoundedCopies` (at once) and by
`ThreadedCopies` (in a worker thread). Measured with the other core idle, and with another process
on it, as an API server is. Reported: what a copied iteration takes longer than a plain one, in
medians over interleaved rounds.
"""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from caesura.engine.copies.backend import (
    BoundedCopies,
    CopyBackend,
    ThreadedCopies,
    allocate_host_regions,
)
from caesura.engine.copies.batch import CopyBatch
from caesura.lab.results_file import Origin, replace_json

LAYERS, LAYER_BYTES, NUM_BLOCKS, NUM_SLOTS = 4, 96 * 1024, 256, 2048
BLOCKS = (1, 8, 32)
ROUNDS = 60


def spin(stop: object) -> None:
    """Keep a core busy."""
    while not stop.is_set():  # type: ignore[attr-defined]
        sum(range(10_000))


def iteration_ms(
    matrix: torch.Tensor, before: Callable[[], None], after: Callable[[], None]
) -> float:
    """Time of one iteration with what is done before and after its computation."""
    started = time.perf_counter()
    before()
    torch.mm(matrix, matrix)
    after()
    return 1e3 * (time.perf_counter() - started)


def measure(backend: CopyBackend, matrix: torch.Tensor, blocks: int) -> dict[str, float]:
    """Median time of an iteration with copies, and what they add."""
    plain, copied = [], []
    for index in range(ROUNDS):
        pairs = [
            ((index + i) % NUM_BLOCKS, (index * blocks + i) % NUM_SLOTS) for i in range(blocks)
        ]
        batch = CopyBatch(index, stores=pairs)
        plain.append(iteration_ms(matrix, lambda: None, lambda: None))

        def start(batch: CopyBatch = batch) -> None:
            backend.start_loads(batch)
            backend.start_stores(batch)

        if isinstance(backend, ThreadedCopies):
            copied.append(iteration_ms(matrix, start, lambda: None))
        else:
            copied.append(iteration_ms(matrix, lambda: None, start))
        while batch.id not in backend.poll().completed:
            time.sleep(1e-4)
    added = [b - a for a, b in zip(plain, copied, strict=True)]
    return {"iteration_ms": statistics.median(plain), "added_ms": statistics.median(added)}


def main(out: str) -> None:
    """Measure and write the figures."""
    torch.set_num_threads(1)
    regions = [torch.zeros(NUM_BLOCKS, LAYER_BYTES, dtype=torch.int8) for _ in range(LAYERS)]
    host = allocate_host_regions(regions, NUM_SLOTS, pin=False)
    for region in host:
        region.zero_()  # touch every page
    matrix = torch.randn(700, 700)
    rows = []
    for busy in (False, True):
        stop = multiprocessing.Event()
        process = multiprocessing.Process(target=spin, args=(stop,))
        if busy:
            process.start()
        for blocks in BLOCKS:
            for backend in (BoundedCopies(regions, host), ThreadedCopies(regions, host)):
                row = {"backend": type(backend).__name__, "blocks": blocks, "other_core_busy": busy}
                row |= measure(backend, matrix, blocks)
                row["mebibytes"] = blocks * LAYERS * LAYER_BYTES / 2**20
                rows.append(row)
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
                backend.shutdown()
        if busy:
            stop.set()
            process.join()
    result = {
        **Origin(".venv/bin/python benchmarks/cpu_copies.py OUT.json").entries(),
        "rows": rows,
    }
    replace_json(Path(out), result)


if __name__ == "__main__":
    main(sys.argv[1])
