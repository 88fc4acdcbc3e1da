"""How soon is a steer in the context, and how much is computed again? Over OpenAI's client.

    caesura serve MODEL --enforce-eager --enable-prompt-tokens-details --port 8000 &
    .venv/bin/python benchmarks/steer_steps.py http://localhost:8000 OUT.json

On one socket, several lanes write at the same time, and each is steered again and again, behind a
random number of words. Of each steer two counts are taken:

* tokens that the client gets between `response.steer.accepted` and the end of the response: what
  the model has written without the steer, after it had arrived;
* tokens before the steer that its response found nowhere (`cached_tokens`), but for the last one,
  which nobody had read.

MODEL writes one token for each word, such as the model of Caesura's benchmarks
(`caesura.lab.models.noise_model.demo_model_path`).
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from openai import AsyncOpenAI
from rich.console import Console
from rich.table import Table

from caesura.lab.results_file import Origin, write_results

STEERS = 200
STEERS_PER_LANE = 25
LANES = (1, 8)
WORDS = (3, 30)


@dataclass(frozen=True, slots=True)
class Steer:
    """One steer.

    Attributes:
        tokens: that came after it was accepted.
        recomputed: tokens before it that were computed again.
        seconds: from sending it until its response had begun.
    """

    tokens: int
    recomputed: int
    seconds: float


class Lane:
    """One conversation of the socket."""

    def __init__(self, connection: Any, name: str, model: str, seed: int) -> None:
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self._connection = connection
        self._name = name
        self._model = model
        self._chance = random.Random(seed)

    async def steered(self, steers: int) -> list[Steer]:
        """A story that is steered that often."""
        request = {"type": "response.create", "model": self._model, "stream_id": self._name}
        request |= {"input": "Tell me a story.", "max_output_tokens": 400, "temperature": 0}
        request |= {"ignore_eos": True, "store": False, "enable_response_messages": True}
        await self._connection.send_raw(json.dumps(request))
        response_id = (await self._until("response.created"))[-1].response.id
        seen: list[Steer] = []
        cut_before: tuple[int, float, int] | None = None  # tokens, seconds, length of the context
        while len(seen) < steers:
            for _ in range(self._chance.randint(*WORDS)):
                await self._until("response.output_text.delta")
            text = f"Now about number {self._chance.randint(0, 999)}."
            sent = time.perf_counter()
            await self._connection.response.steer(previous_response_id=response_id, input=text)
            await self._until("response.steer.accepted")
            events = await self._until("response.incomplete")
            response_id = (await self._until("response.created"))[-1].response.id
            seconds = time.perf_counter() - sent
            usage = events[-1].response.usage
            if cut_before is not None:
                tokens, waited, context = cut_before
                recomputed = max(0, context - 1 - usage.input_tokens_details.cached_tokens)
                seen.append(Steer(tokens, recomputed, waited))
            tokens = sum(event.type == "response.output_text.delta" for event in events)
            cut_before = (tokens, seconds, usage.total_tokens)
        await self._until("response.completed")
        return seen

    async def _until(self, kind: str) -> list[Any]:
        events = []
        while not events or events[-1].type != kind:
            events.append(await self.events.get())
            if events[-1].type in {"error", "response.steer.failed", "response.completed"} - {kind}:
                raise SystemExit(str(events[-1]))
        return events


async def measured(url: str, lanes: int) -> list[Steer]:
    """All steers of one socket with that many lanes."""
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
    model = (await client.models.list()).data[0].id
    seen: list[Steer] = []
    async with client.responses.connect() as connection:
        names = [f"lane_{number}" for number in range(lanes)]
        by_name = {name: Lane(connection, name, model, seed) for seed, name in enumerate(names)}

        async def read() -> None:
            async for event in connection:
                by_name[event.stream_id].events.put_nowait(event)

        reading = asyncio.create_task(read())
        while len(seen) < STEERS:
            rounds = [lane.steered(STEERS_PER_LANE) for lane in by_name.values()]
            for each in await asyncio.gather(*rounds):
                seen += each
        reading.cancel()
    return seen


def shares(values: list[int]) -> str:
    """A distribution in per cent."""
    counts = sorted(Counter(values).items())
    return ", ".join(f"{value}: {count / len(values):.1%}" for value, count in counts)


def main() -> None:
    """Measure, print a table and write the raw figures."""
    url = sys.argv[1]
    version = httpx.get(f"{url}/version").json()
    table = Table(title="from a steer to the context that has it")
    for column in ("lanes", "steers", "tokens", "recomputed", "median ms"):
        table.add_column(column, justify="right")
    runs = []
    for lanes in LANES:
        seen = asyncio.run(measured(url, lanes))
        runs.append({"lanes": lanes, "steers": [asdict(steer) for steer in seen]})
        table.add_row(
            str(lanes),
            str(len(seen)),
            shares([steer.tokens for steer in seen]),
            shares([steer.recomputed for steer in seen]),
            f"{1e3 * median(steer.seconds for steer in seen):.1f}",
        )
    Console(width=110).print(table)
    command = ".venv/bin/python benchmarks/steer_steps.py URL OUT.json"
    write_results(Path(sys.argv[2]), Origin(command), {"server": version, "runs": runs})


if __name__ == "__main__":
    main()
