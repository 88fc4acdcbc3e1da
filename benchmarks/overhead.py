"""What Caesura costs requests that never pause: throughput against stock vLLM, interleaved.

    .venv/bin/python benchmarks/overhead.py OUT.json [ROUNDS]

Two engines, one with Caesura's scheduler and connector, run the same requests in turn, A B B A;
reported is the ratio of their throughputs pair by pair. CPU time of the engine's process is
given too, since it is less noisy than time on a busy machine.
"""

import asyncio
import json
import random
import shlex
import statistics
import sys
import time
from pathlib import Path

import psutil

from caesura.engine import CaesuraConfig, EngineSettings, start_engine
from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.results_file import Origin, replace_json
from caesura.session import Sampling, Session

REQUESTS, PROMPT_TOKENS, OUTPUT_TOKENS = 48, 200, 48


async def run(engine, seed: int) -> tuple[float, float]:
    """Wall seconds and CPU seconds of the engine's process for one round."""
    rng = random.Random(seed)
    prompts = [[rng.randrange(266, 1024) for _ in range(PROMPT_TOKENS)] for _ in range(REQUESTS)]
    await engine.reset()
    process = psutil.Process(engine.pid)
    cpu_before, started = sum(process.cpu_times()[:2]), time.perf_counter()

    async def one(prompt: list[int]) -> None:
        session = await Session.open(
            engine.single, prompt, Sampling(max_tokens=OUTPUT_TOKENS, ignore_eos=True)
        )
        async for _ in session:
            pass
        await session.close()

    await asyncio.gather(*(one(prompt) for prompt in prompts))
    return time.perf_counter() - started, sum(process.cpu_times()[:2]) - cpu_before


async def main(rounds: int) -> dict[str, object]:
    """Measure, and return the figures."""
    from caesura.lab.bench.vllm_resubmitting import ResubmittingEngine

    engines = {}
    children = set()
    for name, config in (
        ("stock", None),
        ("caesura", CaesuraConfig(policy="swap", host_memory="256MiB")),
    ):
        settings = EngineSettings(
            str(demo_model_path()),
            config,
            kv_memory_bytes=256 * 2**20,
            dtype="float32",
            compute_threads=1,
        )
        engine = start_engine(settings)
        engine.single = ResubmittingEngine(engine.llm)  # plain requests in both arms
        new = {
            child.pid: child
            for child in psutil.Process().children(recursive=True)
            if child.pid not in children
        }
        children |= set(new)
        engine.pid = max(new, key=lambda pid: new[pid].memory_info().rss)
        engines[name] = engine
        await run(engine, 0)
    ratios, cpu_ratios, walls = [], [], {"stock": [], "caesura": []}
    for index in range(rounds):
        order = ["stock", "caesura"] if index % 2 else ["caesura", "stock"]
        figures = {name: await run(engines[name], index + 1) for name in order}
        for name, (wall, _) in figures.items():
            walls[name].append(wall)
        ratios.append(figures["stock"][0] / figures["caesura"][0])
        cpu_ratios.append(figures["stock"][1] / figures["caesura"][1])
        print(f"round {index + 1}: throughput ratio {ratios[-1]:.4f}, CPU {cpu_ratios[-1]:.4f}")
    for engine in engines.values():
        engine.shutdown()
    tokens = REQUESTS * (PROMPT_TOKENS + OUTPUT_TOKENS)
    result = {
        **Origin(
            shlex.join([".venv/bin/python", "benchmarks/overhead.py", *sys.argv[1:]])
        ).entries(),
        "rounds": rounds,
        "tokens_per_second": {
            name: tokens / statistics.median(values) for name, values in walls.items()
        },
        "throughput_ratio_caesura_to_stock": spread(ratios),
        "cpu_time_ratio_stock_to_caesura": spread(cpu_ratios),
    }
    return result


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    quartiles = statistics.quantiles(values, n=4)
    return {"median": statistics.median(values), "q1": quartiles[0], "q3": quartiles[2]}


if __name__ == "__main__":
    figures = asyncio.run(main(int(sys.argv[2]) if len(sys.argv) > 2 else 20))
    print(json.dumps(figures, indent=1))
    replace_json(Path(sys.argv[1]), figures)
