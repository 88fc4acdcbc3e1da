"""Sessions that are made to write a script, on the real engine."""

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caesura.cml import CallStop
from caesura.engine.serving.launch import Engine
from caesura.session import Sampling, Session, StopReason
from support.draws import examples
from support.engines.real import EngineLoop
from support.models.forced_tokens import script as script_extra
from support.models.framed import CALL, END, HEAD, INTR, TRAP, framed_rules
from support.waiting import think

pytestmark = pytest.mark.engine

PIECES = ([CALL, 700, HEAD, 701, END], [CALL, 702, END], [TRAP, END], [703], [300, 301], [704, 20])
scripts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=12).map(
    lambda pieces: tuple(token for piece in pieces for token in piece)
)


async def written(engine: Engine, script: tuple[int, ...], calls: CallStop, seed: int) -> list[int]:
    """What a session writes that is interrupted and paused at random."""
    chance = random.Random(seed)
    prompt = [chance.randrange(400, 600) for _ in range(chance.randint(1, 200))]

    def frame() -> list[int]:
        return [INTR, *(chance.randrange(400, 600) for _ in range(chance.randint(0, 40))), END]

    rules = framed_rules(calls)
    extra = script_extra(script, len(prompt), rules)
    sampling = Sampling(chance.choice([3, 50]), frames=rules, extra=extra)
    session = await Session.open(engine.tokens, prompt, sampling)
    while session.stop is not StopReason.STOP:
        async for delta in session:
            if delta.stop is None and chance.random() < 0.2:
                await session.interrupt(frame())
        if session.stop is not StopReason.STOP:
            await think(chance.choice([0, 0, 0.02]))
            await session.resume(frame())
    await session.close()
    found: list[int] = []
    injected = False
    for token in session.transcript[len(prompt) :]:
        injected = injected or token == INTR
        if not injected:
            found.append(token)
        injected = injected and token != END
    return found


@settings(max_examples=examples(8), suppress_health_check=list(HealthCheck))
@given(
    plans=st.lists(st.tuples(scripts, st.sampled_from(CallStop)), min_size=1, max_size=10),
    tokens_seed=st.integers(0, 10_000),
)
def test_scripts_are_written_across_interrupts_pauses_and_preemption(
    chaotic: Engine,
    engine_loop: EngineLoop,
    plans: list[tuple[tuple[int, ...], CallStop]],
    tokens_seed: int,
) -> None:
    async def play() -> list[list[int]]:
        return await asyncio.gather(
            *(
                written(chaotic, script, calls, tokens_seed * 1000 + index)
                for index, (script, calls) in enumerate(plans)
            )
        )

    assert engine_loop.run(play()) == [list(script) for script, _ in plans]


def test_a_free_session_is_free_beside_one_with_a_script(
    chaotic: Engine, engine_loop: EngineLoop
) -> None:
    async def tokens(sampling: Sampling) -> list[int]:
        async with await Session.open(chaotic.tokens, [400, 401], sampling) as session:
            return [token async for delta in session for token in delta.token_ids]

    async def play() -> None:
        free = Sampling(20, ignore_eos=True)
        rules = framed_rules(CallStop.NEVER)
        script = Sampling(20, frames=rules, extra=script_extra((20, 700, 21), 2, rules))
        alone = await tokens(free)
        assert len(alone) == 20
        assert await asyncio.gather(tokens(free), tokens(script), tokens(free)) == [
            alone,
            [20, 700, 21],
            alone,
        ]

    engine_loop.run(play())
