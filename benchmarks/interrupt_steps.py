"""How soon does a generating session see what is injected? In engine steps, on the real engine.

    .venv/bin/python benchmarks/interrupt_steps.py OUT.json

Sessions with CML frames decode on the demo model. At random times one of them is interrupted with
a frame of 12 tokens. Counted are the engine's steps whose results reach the client after
`Session.interrupt` has returned, up to the one with the first token that has seen the frame; of
these the first is under way when the interrupt arrives. Every word of the demo model is one token,
so no interrupt waits for the start of a word: what is left is the engine.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

from rich.console import Console
from rich.table import Table

from caesura.bench.machine import this_machine
from caesura.demo.model import demo_model_path
from caesura.demo.tokenizer import FIRST_WORD_ID
from caesura.engine.config import CaesuraConfig
from caesura.engine.launch import Engine, EngineSettings, start_engine
from caesura.session import CallStop, FrameRules, Sampling, Session, StopReason

RULES = FrameRules(*range(FIRST_WORD_ID, FIRST_WORD_ID + 5), CallStop.NEVER)
FRAME_TOKENS = 12
INTERRUPTS = 200
INTERRUPTS_PER_SESSION = 40
GAP_SECONDS = (0.01, 0.05)


@dataclass(frozen=True, slots=True)
class Seen:
    """One interrupt, until the first token that has seen it."""

    steps: int
    seconds: float


async def interrupted_session(engine: Engine, seed: int, interrupts: int) -> list[Seen]:
    """Generate on, and inject a frame now and then."""
    chance = random.Random(seed)
    words = range(FIRST_WORD_ID + 5, engine.vocab_size)
    prompt = chance.choices(words, k=50)
    frame = [RULES.interrupt, *chance.choices(words, k=FRAME_TOKENS - 2), RULES.end]
    session = await Session.open(
        engine.tokens, prompt, Sampling(4000, ignore_eos=True, frames=RULES)
    )
    sent: tuple[int, float] | None = None
    waiting = False
    seen: list[Seen] = []

    async def inject() -> None:
        nonlocal sent
        await asyncio.sleep(chance.uniform(*GAP_SECONDS))
        await session.interrupt(frame)
        sent = engine.counts.totals["iterations"], time.perf_counter()

    injecting = asyncio.create_task(inject())
    async for delta in session:
        if waiting and delta.token_ids:
            assert sent is not None
            steps = engine.counts.totals["iterations"] - sent[0]
            seen.append(Seen(steps, time.perf_counter() - sent[1]))
            waiting = False
            if len(seen) == interrupts:
                break
            injecting = asyncio.create_task(inject())
        waiting = waiting or delta.stop is StopReason.INTERRUPTED
    await injecting
    await session.close()
    return seen


async def measure(engine: Engine, sessions: int) -> list[Seen]:
    """Interrupts of this many sessions at once, `INTERRUPTS` of them or more."""
    seen: list[Seen] = []
    round_number = 0
    while len(seen) < INTERRUPTS:
        seeds = [round_number * 100 + index for index in range(sessions)]
        each = min(INTERRUPTS_PER_SESSION, -(-INTERRUPTS // sessions))
        rounds = await asyncio.gather(*(interrupted_session(engine, seed, each) for seed in seeds))
        seen += [item for session in rounds for item in session]
        round_number += 1
    return seen


async def measured(async_scheduling: bool) -> dict[int, list[Seen]]:
    """Distributions for 1 and for 8 sessions."""
    settings = EngineSettings(
        str(demo_model_path()),
        caesura=CaesuraConfig(policy="preserve"),
        dtype="float32",
        kv_memory_bytes=2 * 2**30,
        compute_threads=1,
        overrides={"async_scheduling": async_scheduling},
    )
    engine = start_engine(settings)
    try:
        return {sessions: await measure(engine, sessions) for sessions in (1, 8)}
    finally:
        engine.shutdown()


def row(scheduling: str, sessions: int, seen: list[Seen]) -> tuple[str, ...]:
    """A distribution as a row of the table."""
    steps = Counter(item.steps for item in seen)
    shares = ", ".join(
        f"{count}: {number / len(seen):.0%}" for count, number in sorted(steps.items())
    )
    return (
        scheduling,
        str(sessions),
        str(len(seen)),
        f"{mean(item.steps for item in seen):.2f}",
        shares,
        f"{1e3 * median(item.seconds for item in seen):.1f}",
    )


def main() -> None:
    """Measure, print a table and write the raw figures."""
    console = Console(width=100)
    table = Table(title="engine steps from an interrupt to the first token that has seen it")
    for column in ("scheduling", "sessions", "interrupts", "mean", "distribution", "median ms"):
        table.add_column(column, justify="right")
    runs = []
    for scheduling in ("async", "sync"):
        for sessions, seen in asyncio.run(measured(scheduling == "async")).items():
            figures = row(scheduling, sessions, seen)
            console.print(*figures)
            table.add_row(*figures)
            raw = [asdict(item) for item in seen]
            runs.append({"scheduling": scheduling, "sessions": sessions, "seen": raw})
    console.print(table)
    command = ".venv/bin/python benchmarks/interrupt_steps.py OUT.json"
    result = {"command": command, "machine": asdict(this_machine()), "runs": runs}
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
