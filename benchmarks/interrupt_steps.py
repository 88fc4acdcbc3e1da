"""How soon does a generating session see what is injected? In engine steps, on the real engine.

    .venv/bin/python benchmarks/interrupt_steps.py OUT.json

Sessions with CML frames decode on the demo model. At random times one of them is interrupted with
a frame of 12 tokens. Two counts, both up to the first token that has seen the frame:

* steps that the engine begins after the tokens have arrived in its scheduler
  (`caesura:interrupts_seen_total`): one whose token shows that a word begins there and is cut off,
  and one that computes the frame and samples. The step under way at the arrival adds to them for
  whoever waits.
* steps whose results reach the client after `Session.interrupt` has returned: also those that were
  on their way then. Asynchronous scheduling delivers each step's result one step later.

Every word of the demo model is one token, so no interrupt waits for the start of a word: what is
left is the engine.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from caesura.engine.config import CaesuraConfig
from caesura.engine.serving.launch import Engine, EngineSettings, start_engine
from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.models.noise_tokenizer import FIRST_WORD_ID, vocabulary
from caesura.lab.results_file import Origin, write_results
from caesura.session import CallStop, FrameRules, Sampling, Session, StopReason

# Tokens that the demo model never writes by itself.
MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<pad>")
RULES = FrameRules(
    *(vocabulary(FIRST_WORD_ID + 1).index(marker) for marker in MARKERS), calls=CallStop.NEVER
)
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
    words = range(FIRST_WORD_ID, engine.vocab_size)
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


@dataclass(frozen=True, slots=True)
class Run:
    """All interrupts of a number of sessions.

    Attributes:
        seen: as the client saw them.
        steps: how many took how many steps in the engine.
    """

    scheduling: str
    sessions: int
    seen: list[Seen]
    steps: dict[int, int]


async def measure(engine: Engine, scheduling: str, sessions: int) -> Run:
    """Interrupts of this many sessions at once, `INTERRUPTS` of them or more."""
    engine.counts.reset()
    seen: list[Seen] = []
    round_number = 0
    while len(seen) < INTERRUPTS:
        seeds = [round_number * 100 + index for index in range(sessions)]
        each = min(INTERRUPTS_PER_SESSION, -(-INTERRUPTS // sessions))
        rounds = await asyncio.gather(*(interrupted_session(engine, seed, each) for seed in seeds))
        seen += [item for session in rounds for item in session]
        round_number += 1
    prefix = "interrupts_seen|"
    steps = {
        int(key.removeprefix(prefix)): count
        for key, count in engine.counts.totals.items()
        if key.startswith(prefix)
    }
    return Run(scheduling, sessions, seen, steps)


async def measured(scheduling: str) -> list[Run]:
    """For 1 and for 8 sessions."""
    settings = EngineSettings(
        str(demo_model_path()),
        caesura=CaesuraConfig(policy="preserve"),
        dtype="float32",
        kv_memory_bytes=2 * 2**30,
        compute_threads=1,
        overrides={"async_scheduling": scheduling == "async"},
    )
    engine = start_engine(settings)
    try:
        return [await measure(engine, scheduling, sessions) for sessions in (1, 8)]
    finally:
        engine.shutdown()


def shares(steps: dict[int, int]) -> str:
    """A distribution in per cent."""
    total = sum(steps.values())
    return ", ".join(f"{count}: {number / total:.1%}" for count, number in sorted(steps.items()))


def main() -> None:
    """Measure, print a table and write the raw figures."""
    console = Console(width=110)
    table = Table(title="steps from an interrupt to the first token that has seen it")
    for column in ("scheduling", "sessions", "interrupts", "engine", "client", "client, median ms"):
        table.add_column(column, justify="right")
    runs = [run for scheduling in ("async", "sync") for run in asyncio.run(measured(scheduling))]
    for run in runs:
        table.add_row(
            run.scheduling,
            str(run.sessions),
            str(len(run.seen)),
            shares(run.steps),
            shares(Counter(item.steps for item in run.seen)),
            f"{1e3 * median(item.seconds for item in run.seen):.1f}",
        )
    console.print(table)
    command = ".venv/bin/python benchmarks/interrupt_steps.py OUT.json"
    write_results(Path(sys.argv[1]), Origin(command), {"runs": [asdict(run) for run in runs]})


if __name__ == "__main__":
    main()
