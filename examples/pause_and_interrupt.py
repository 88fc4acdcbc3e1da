"""A session that pauses, resumes and is interrupted, in one small program.

Run: .venv/bin/python examples/pause_and_interrupt.py [MODEL]

Without MODEL it uses the bundled demo model: random weights, so the text means nothing.
"""

import asyncio
import sys

from transformers import AutoTokenizer

from caesura.engine import CaesuraConfig, EngineSettings, start_engine
from caesura.lab.models.noise_model import demo_model_path
from caesura.session import Sampling, Session


async def run(model: str) -> None:
    """Open a session, let it pause, resume it, interrupt it, close it."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    engine = start_engine(
        EngineSettings(
            model=model,
            caesura=CaesuraConfig(policy="swap", host_memory="64MiB"),
            kv_memory_bytes=64 * 2**20,
            dtype="float32",
        )
    )
    prompt = tokenizer.encode("What is the weather in Berlin?")
    async with await Session.open(engine.tokens, prompt, Sampling(max_tokens=12)) as session:
        async for delta in session:
            print(tokenizer.decode(delta.token_ids), end="", flush=True)
        print(f"\n-- paused ({session.stop}); a tool runs ...")

        await session.resume(tokenizer.encode("It is 18 degrees."), Sampling(max_tokens=30))
        seen = 0
        async for delta in session:
            seen += len(delta.token_ids)
            print(tokenizer.decode(delta.token_ids), end="", flush=True)
            if seen == 10:
                await session.interrupt(tokenizer.encode("Answer in Celsius, please."))
                print("\n-- interrupted, without stopping ...")
        print(f"\n-- {len(session.transcript)} tokens in all, each computed once")
    engine.shutdown()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1] if len(sys.argv) > 1 else str(demo_model_path())))
