"""A real model under `caesura serve`: many agents, little memory, exact answers."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from caesura.lab.models.cache import is_complete
from caesura.model_cache import PACKAGED, models_folder
from support.servers.process import Server, serving

NAME = "smollm2"
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        not is_complete(models_folder() / PACKAGED[NAME]),
        reason="chat with a real model needs SmolLM2 in the cache: make models",
    ),
]

AGENTS = 20
THINGS = ("kettle", "lantern", "violin", "compass", "blanket")
TOKEN_BYTES = 30 * 2 * 3 * 64 * 4  # layers, keys and values, heads, head size, float32
KV_TOKENS = 1024  # of about 4,000 that the agents' contexts have together
BLOCK_TOKENS = 32


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    arguments = [
        *("--dtype", "float32", "--enforce-eager", "--max-model-len", "768"),
        *("--kv-cache-memory-bytes", str(KV_TOKENS * TOKEN_BYTES)),
        *("--host-memory", str(4096 * TOKEN_BYTES)),
        *("--keep-contexts", "all"),
        *("--additional-config", json.dumps({"caesura": {"check_integrity": True}})),
    ]
    log = tmp_path_factory.mktemp("smollm2") / "server.log"
    with serving(NAME, arguments, log) as running:
        yield running


QUESTIONS = (
    "I am looking for a {thing} as a present for a friend who likes old things. Have you got one?",
    "The clerk says that there are {number} left. What would you ask next?",
    "It costs {number} pounds. Write one sentence to my friend about the {thing}.",
)


async def agent(
    client: openai.AsyncOpenAI, number: int, all_wait: asyncio.Barrier | None = None
) -> tuple[list[str], list[Any]]:
    """The answers of a chat of three turns, and the usage of each."""
    messages: list[Any] = [
        {"role": "system", "content": f"You help customer {number * 37} of a shop. Be brief."}
    ]
    answers, usages = [], []
    for question in QUESTIONS:
        thing = THINGS[number % len(THINGS)]
        content = question.format(thing=thing, number=number * 3 + 2)
        messages.append({"role": "user", "content": content})
        response = await client.chat.completions.create(
            model=NAME, messages=messages, temperature=0, max_tokens=16
        )
        answers.append(response.choices[0].message.content or "")
        usages.append(response.usage)
        messages.append({"role": "assistant", "content": answers[-1]})
        if all_wait is not None:
            await all_wait.wait()
    return answers, usages


def test_agents_get_the_answers_of_an_undisturbed_run(server: Server) -> None:
    async def run() -> None:
        client = server.client()
        barrier = asyncio.Barrier(AGENTS)
        crowd = await asyncio.gather(*(agent(client, n, barrier) for n in range(AGENTS)))
        for answers, usages in crowd:
            assert all(answers)
            assert usages[0].caesura["continuation"] == "none"
            continued = {usage.caesura["continuation"] for usage in usages[1:]}
            assert continued <= {"transcript", "rendered"}
        moved = sum(server.metric(name) for name in ("loaded_tokens", "recomputed_tokens"))
        assert moved > AGENTS * BLOCK_TOKENS, "the contexts did not all fit"
        alone = [await agent(client, number) for number in range(AGENTS)]
        assert [answers for answers, _ in crowd] == [answers for answers, _ in alone]

    asyncio.run(run())


def test_it_chats_in_english_under_its_short_name(server: Server) -> None:
    models = httpx.get(f"{server.url}/v1/models").json()["data"]
    assert [model["id"] for model in models] == [NAME]
    answer = httpx.post(
        f"{server.url}/v1/chat/completions",
        json={
            "model": NAME,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "temperature": 0,
            "max_tokens": 12,
        },
        timeout=60,
    ).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
