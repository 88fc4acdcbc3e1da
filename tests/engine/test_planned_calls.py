"""Sessions that write a plan of calls, on the real engine."""

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caesura.cml import CallStop
from caesura.engine.serving.launch import Engine
from caesura.lab.bench.function_calling.call_plan import (
    ARGUMENT,
    CallPlan,
    MarkerTokens,
    PlannedWriter,
    TokenizedCall,
)
from caesura.session import Sampling, Session, StopReason
from support.draws import examples
from support.engines.real import EngineLoop
from support.models.framed import CALL, END, HEAD, INTR, TRAP, framed_rules
from support.waiting import think

pytestmark = pytest.mark.engine

EOS = 2
MARKERS = MarkerTokens(call=CALL, interrupt=INTR, trap=TRAP, head=HEAD, end=END)
# Two chains of two calls, and one call for itself.
CALLS = tuple(
    TokenizedCall((700 + index,), tuple(range(400, 404 + index)), after)
    for index, after in enumerate(((), (0,), (), (2,), ()))
)


async def written(engine: Engine, chance: random.Random) -> tuple[CallPlan, list[int], set[int]]:
    """The plan, the transcript and the positions of what was injected."""
    prompt = [chance.randrange(400, 600) for _ in range(chance.randint(1, 200))]
    plan = CallPlan(len(prompt), MARKERS, CALLS, (450, 451), EOS, traps=True)
    sampling = Sampling(
        200, frames=framed_rules(CallStop.NEVER), extra={ARGUMENT: plan.to_argument()}
    )
    answered: set[int] = set()

    def pending(transcript: list[int]) -> list[int]:
        text = transcript[len(prompt) :]
        made = [text[at + 1] for at, token in enumerate(text[:-1]) if token == CALL]
        return [call_id for call_id in made if call_id not in answered]

    def result(call_id: int) -> list[int]:
        answered.add(call_id)
        return [INTR, call_id, HEAD, *(500 for _ in range(chance.randint(0, 30))), END]

    session = await Session.open(engine.tokens, prompt, sampling)
    while session.stop is not StopReason.STOP:
        async for delta in session:
            waiting = pending(session.transcript)  # all but the last are written to their end
            if delta.stop is None and len(waiting) > 1 and chance.random() < 0.2:
                await session.interrupt(result(waiting[0]))
        if session.stop is StopReason.FRAME:
            await think(chance.choice([0, 0, 0.02]))
            await session.resume(result(chance.choice(pending(session.transcript))))
    await session.close()
    injected, inside = set(), False
    for position, token in enumerate(session.transcript[len(prompt) :], len(prompt)):
        inside = inside or token == INTR
        if inside:
            injected.add(position)
        inside = inside and token != END
    return plan, session.transcript, injected


@settings(max_examples=examples(10), suppress_health_check=list(HealthCheck))
@given(sessions=st.integers(1, 8), tokens_seed=st.integers(0, 10_000))
def test_every_token_is_what_the_plan_says_after_its_context(
    chaotic: Engine, engine_loop: EngineLoop, sessions: int, tokens_seed: int
) -> None:
    async def play() -> list[tuple[CallPlan, list[int], set[int]]]:
        seeds = (random.Random(f"{tokens_seed} {index}") for index in range(sessions))
        return await asyncio.gather(*(written(chaotic, chance) for chance in seeds))

    for plan, transcript, injected in engine_loop.run(play()):
        writer = PlannedWriter(plan)
        writer.read(transcript[: plan.prompt_tokens])
        for position in range(plan.prompt_tokens, len(transcript)):
            if position not in injected:
                assert transcript[position] == writer.next_token()
            writer.read([transcript[position]])
        assert writer.next_token() == EOS
        assert transcript.count(CALL) == len(CALLS)
        assert transcript[-2:] == [450, 451]
