"""Clients' conversations on several engines: each finds its context again, and says nothing."""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from caesura.server.clients.turns import ClientTurn, serving
from caesura.server.clients.vllm_engine import HomedEngine, ObservedEngine
from caesura.session.homes import Homes
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.several import VirtualRanks, balancer, chosen, over

pytestmark = pytest.mark.asyncio

SYSTEM = [n % 64 for n in range(3 * BLOCK_SIZE)]
SHAPE = Shape(
    blocks=24 * 16,
    max_num_seqs=8,
    max_num_batched_tokens=256,
    max_model_len=512,
    options={"policy": "preserve", "keep_contexts": "all", "check_integrity": True},
)


class Agents:
    """Agents that run their own tools at a server of so many engines, and each its seed.

    Attributes:
        moved: turns that went elsewhere than the one before.
        returned: turns that came back.
        context_tokens: those that they had been computed with before.
        lost_tokens: those of them that were computed again.
    """

    def __init__(self, engines: int, homes: Homes | None) -> None:
        self.ranks = VirtualRanks(engines, SHAPE)
        self.homes = homes
        self.moved = self.returned = 0
        self.context_tokens = self.lost_tokens = 0

    async def run(self, agents: int, turns: int) -> None:
        async with asyncio.timeout(100), asyncio.TaskGroup() as engines:
            stepping = engines.create_task(self.ranks.run())
            async with asyncio.TaskGroup() as group:
                for name in range(agents):
                    group.create_task(self._agent(name, turns))
            stepping.cancel()

    async def _agent(self, name: int, turns: int) -> None:
        draws = random.Random(name)
        # All begin alike, and some with the same question.
        tokens = [*SYSTEM, *[name // 2 % 64] * 9]
        home, new = None, 0
        for turn in range(turns):
            context, request_id = len(tokens), f"{name}/{turn}"
            generated = await self._generate(tokens, request_id, draws)
            rank = self.ranks.ranks[request_id]
            if turn:
                self.moved += rank != home
                self.returned += 1
                known = context - new - 1  # the last token of an output was not computed
                self.context_tokens += known
                computed = self.ranks.computed_tokens[request_id]
                self.lost_tokens += max(0, computed - (context - known))
            home, new = rank, draws.randrange(1, 40)
            tokens = [*tokens, *generated, *draws.choices(range(64), k=new)]
            for _ in range(draws.randrange(20)):  # the tool takes its time
                await asyncio.sleep(0)

    async def _generate(self, tokens: list[int], request_id: str, draws: random.Random) -> Any:
        engine: Any = self.ranks
        if self.homes is not None:
            for rank in range(len(self.ranks.engines)):
                if (in_charge := self.ranks.in_charge(rank)) is not None:
                    self.homes.report(rank, in_charge)
            engine = HomedEngine(engine, self.homes)
        kind = draws.choice([RequestOutputKind.DELTA, RequestOutputKind.FINAL_ONLY])
        params = SamplingParams(max_tokens=draws.randrange(1, 24), output_kind=kind)
        turn = ClientTurn("anna")
        prompt = {"type": "token", "prompt_token_ids": tokens}
        with serving(turn):
            observed = ObservedEngine(engine).generate(prompt, params, request_id)
            async for _ in observed:
                pass
        return turn.output_tokens

    @property
    def hit_rate(self) -> float:
        return 1 - self.lost_tokens / self.context_tokens


async def played(engines: int, *, homed: bool) -> Agents:
    agents = Agents(engines, Homes(lambda: engines) if homed else None)
    await agents.run(8 * engines, turns=6)
    return agents


async def test_as_much_is_found_on_several_engines_as_on_one() -> None:
    alone = await played(1, homed=True)
    assert alone.hit_rate > 0.9, "but for partly filled blocks"
    for engines in (2, 4):
        agents = await played(engines, homed=True)
        assert agents.moved == 0
        assert agents.returned == 8 * engines * 5
        assert agents.hit_rate > 0.99 * alone.hit_rate
        used = set(agents.ranks.ranks.values())
        assert used == set(range(engines))


async def test_vllm_by_itself_moves_them() -> None:
    """It is what this is for; once vLLM does not, homes are not needed."""
    agents = await played(2, homed=False)
    assert agents.moved > agents.returned / 4
    assert agents.hit_rate < 0.9


async def test_vllm_puts_a_request_where_it_is_told() -> None:
    client = balancer(4)
    for rank in (3, 0, 2):
        for n in range(5):
            assert chosen(client, f"{rank}/{n}", rank) == rank
            await over(client, f"{rank}/{n}")


async def test_vllm_keeps_an_open_session_where_it_is() -> None:
    client = balancer(4)
    homes = {f"s{n}": chosen(client, f"s{n}") for n in range(12)}
    assert {chosen(client, name) == home for name, home in homes.items()} == {True}


class Answering:
    """The part of vLLM's engine client that generates: one word, always."""

    def __init__(self) -> None:
        self.options: list[Mapping[str, Any]] = []

    async def generate(self, prompt: Any, params: Any, request_id: str, **options: Any) -> Any:
        self.options.append(options)
        return
        yield


async def rank_of(homes: Homes, prompt: Any, turn: ClientTurn | None, **options: Any) -> Any:
    engine = Answering()
    homed = HomedEngine(engine, homes)
    if turn is None:
        _ = [o async for o in homed.generate(prompt, SamplingParams(), "id", **options)]
    else:
        with serving(turn):
            _ = [o async for o in homed.generate(prompt, SamplingParams(), "id", **options)]
    return engine.options[0].get("data_parallel_rank")


def prompt(*tokens: int, **more: str) -> dict[str, object]:
    return {"type": "token", "prompt_token_ids": list(tokens), **more}


async def test_a_client_that_says_where_is_obeyed_and_the_report_says_where_it_was() -> None:
    homes, turn = Homes(lambda: 4), ClientTurn("anna")
    assert await rank_of(homes, prompt(1, 2), turn, data_parallel_rank=3) == 3
    assert turn.report() == {"continuation": "none", "engine": 3}
    assert await rank_of(homes, prompt(1, 2, 3), ClientTurn("anna")) == 3
    assert await rank_of(homes, prompt(1, 2), ClientTurn("anna"), data_parallel_rank=9) == 9


async def test_a_server_of_one_engine_says_nothing_of_it() -> None:
    turn = ClientTurn("anna")
    assert await rank_of(Homes(), prompt(1, 2), turn) is None
    assert turn.report() == {"continuation": "none"}


async def test_owners_and_adapters_do_not_find_each_others() -> None:
    homes = Homes(lambda: 2)
    first = await rank_of(homes, prompt(*range(50), cache_salt="anna"), ClientTurn("anna"))
    more = prompt(*range(51), cache_salt="anna")
    assert await rank_of(homes, more, ClientTurn("anna")) == first
    other = prompt(*range(51), cache_salt="bert")
    assert await rank_of(homes, other, ClientTurn("bert")) != first


async def test_a_prompt_that_is_no_chat_may_be_the_beginning_of_many() -> None:
    """A system message that is computed ahead is one: those that have it are spread."""
    homes = Homes(lambda: 2)
    await rank_of(homes, prompt(*range(50)), None)
    ranks = {await rank_of(homes, prompt(*range(50), 60 + n), None) for n in range(4)}
    assert ranks == {0, 1}
    named = [await rank_of(homes, prompt(n), None, session_id="s") for n in range(4)]
    assert len(set(named)) == 1


async def test_prompts_without_tokens_are_left_to_vllm() -> None:
    homes = Homes(lambda: 2)
    for given in ("text", {"type": "embeds"}):
        assert await rank_of(homes, given, None) is None
