"""Host copies on CUDA: bandwidth, and how much they slow the computation beside them.

Run on a machine with a GPU: python benchmarks/cuda_copies.py OUT.json
The KV cache has the shape of Llama-3.1-8B (32 layers, 8 KV heads of 128, bf16, 16 tokens per
block: 2 MiB). The computation is a matrix product of bf16, repeated to last about as long as an
iteration. Reported: medians over rounds, interleaved with and without copies.
"""

import json
import statistics
import sys
import time

import torch

from caesura.engine.copies.backend import make_backend
from caesura.engine.copies.batch import CopyBatch

LAYERS, BLOCK_BYTES_PER_LAYER = 32, 64 * 1024
NUM_BLOCKS, NUM_SLOTS = 2048, 4096
COPIED_BLOCKS = (8, 32, 128)
ROUNDS = 30


def iteration(matrix: torch.Tensor, repeats: int) -> None:
    """Stand in for the computation of one iteration on the current stream."""
    for _ in range(repeats):
        torch.mm(matrix, matrix)


def timed_ms(work) -> float:
    """Time of `work` on the device, by events on the compute stream."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def main(out: str) -> None:
    """Measure and write the figures."""
    regions = [
        torch.randint(
            -128, 127, (NUM_BLOCKS, BLOCK_BYTES_PER_LAYER), dtype=torch.int8, device="cuda"
        )
        for _ in range(LAYERS)
    ]
    backend = make_backend(regions, NUM_SLOTS)
    matrix = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    iteration(matrix, 3)
    torch.cuda.synchronize()
    repeats = max(1, round(20 / timed_ms(lambda: iteration(matrix, 1))))
    block_bytes = LAYERS * BLOCK_BYTES_PER_LAYER
    batch_id = 0
    rows = []
    for blocks in COPIED_BLOCKS:
        for direction in ("out", "in", "both"):
            alone, beside, submit, copy_seconds = [], [], [], []
            for round_index in range(ROUNDS):
                pairs = [((7 * i + round_index) % NUM_BLOCKS, i) for i in range(blocks)]
                loads = [(i, (NUM_BLOCKS - 1 - i)) for i in range(blocks)]
                batch = CopyBatch(batch_id)
                batch_id += 1
                if direction in ("out", "both"):
                    batch.stores = pairs
                if direction in ("in", "both"):
                    batch.loads = loads
                alone.append(timed_ms(lambda: iteration(matrix, repeats)))

                def with_copies(batch: CopyBatch = batch, submit: list[float] = submit) -> None:
                    started = time.perf_counter()
                    backend.start_loads(batch)
                    backend.start_stores(batch)
                    submit.append(time.perf_counter() - started)
                    iteration(matrix, repeats)

                beside.append(timed_ms(with_copies))
                torch.cuda.synchronize()
                while batch.id not in backend.poll().completed:
                    pass
                # The same copies with an idle device, for the bandwidth.
                idle = CopyBatch(batch_id, loads=batch.loads, stores=batch.stores)
                batch_id += 1
                started = time.perf_counter()
                backend.start_loads(idle)
                backend.start_stores(idle)
                while idle.id not in backend.poll().completed:
                    pass
                copy_seconds.append(time.perf_counter() - started)
            moved = blocks * block_bytes * (2 if direction == "both" else 1)
            rows.append(
                {
                    "direction": direction,
                    "blocks": blocks,
                    "mebibytes": moved / 2**20,
                    "iteration_ms": statistics.median(alone),
                    "iteration_with_copies_ms": statistics.median(beside),
                    "slowdown_percent": 100
                    * (statistics.median(b / a for a, b in zip(alone, beside, strict=True)) - 1),
                    "submit_ms": 1e3 * statistics.median(submit),
                    "copy_alone_ms": 1e3 * statistics.median(copy_seconds),
                    "gigabytes_per_second": moved / statistics.median(copy_seconds) / 1e9,
                }
            )
            print({key: round(v, 3) if isinstance(v, float) else v for key, v in rows[-1].items()})
    result = {
        "command": "python benchmarks/cuda_copies.py OUT.json",
        "machine": {
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        },
        "rounds": ROUNDS,
        "rows": rows,
    }
    with open(out, "w") as file:
        json.dump(result, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1])
