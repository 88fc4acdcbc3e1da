"""Calls that a grammar lets a model begin, on the real engine with a model that knows nothing."""

import asyncio
import random

import pytest
from transformers import AutoTokenizer

from caesura.cml import (
    Call,
    CallStop,
    ErrorKind,
    FireAndForget,
    KnownTools,
    Marker,
    Monitor,
    MonitorSettings,
    ProtocolError,
)
from caesura.engine.model.call_grammar import call_grammar
from caesura.engine.serving.launch import Engine
from caesura.errors import ConfigurationError
from caesura.session import Sampling, Session, StopReason
from support.draws import seeds
from support.engines.real import EngineLoop
from support.models.framed import CALL, END, HEAD, INTR, TRAP, FramedModel, framed_rules

TOOLS = {
    "tide": {
        "properties": {"hour": {"type": "integer", "minimum": 0, "maximum": 23}},
        "required": ["hour"],
        "additionalProperties": False,
    },
    "log": {"properties": {"level": {"$ref": "#/$defs/level"}}, "$defs": {"level": {"enum": [1]}}},
}
TOKENS = {
    Marker.CALL: CALL,
    Marker.TRAP: TRAP,
    Marker.HEAD: HEAD,
    Marker.END: END,
    Marker.INTR: INTR,
}


async def turns_of(engine: Engine, calls: CallStop, seed: int) -> list[tuple[list[int], bool]]:
    """The turns of a session that is interrupted now and then, and whether each was cut short."""
    chance = random.Random(seed)
    rules = framed_rules(calls)
    sampling = Sampling(150, frames=rules, grammar=call_grammar(rules, TOOLS))
    frame = [INTR, 700, HEAD, 701, END]
    prompt = [chance.randrange(400, 600) for _ in range(chance.randint(1, 60))]
    session = await Session.open(engine.tokens, prompt, sampling)
    turns: list[tuple[list[int], bool]] = []
    tokens: list[int] = []
    for pause in range(5):
        if len(session.transcript) > 1000:
            break
        if pause:
            await session.resume(frame)
        async for delta in session:
            tokens += delta.token_ids
            if delta.stop is not None:
                turns.append((tokens, delta.stop is StopReason.LENGTH))
                tokens = []
            elif chance.random() < 0.03 and len(session.transcript) < 600:
                await session.interrupt(frame)
    await session.close()
    return turns


@pytest.mark.engine
@pytest.mark.fuzz
def test_every_call_that_is_begun_is_valid(
    framed: Engine, engine_loop: EngineLoop, framed_model: FramedModel
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(framed_model.path)
    settings = MonitorSettings(KnownTools(TOOLS))

    async def play(*at_once: int) -> list[list[tuple[list[int], bool]]]:
        return await asyncio.gather(
            *(turns_of(framed, calls, seed) for seed in at_once for calls in CallStop)
        )

    found: list[str] = []
    drawn = seeds(2)
    pairs = [drawn[first : first + 2] for first in range(0, len(drawn), 2)]
    for session in [session for pair in pairs for session in engine_loop.run(play(*pair))]:
        for tokens, cut_short in session:
            monitor = Monitor(
                settings, TOKENS, lambda token_ids, final: tokenizer.decode(token_ids)
            )
            events = [*monitor.feed(tokens), *monitor.end_of_stream()]
            for event in events:
                if isinstance(event, Call | FireAndForget):
                    found.append(event.name)
                if isinstance(event, ProtocolError):
                    assert event.kind is ErrorKind.DUPLICATE_ID or (
                        cut_short and event.kind is ErrorKind.UNFINISHED_FRAME
                    ), event
    assert len(found) >= 5
    assert set(found) == set(TOOLS)


def test_a_schema_that_cannot_be_enforced_is_refused() -> None:
    rules = framed_rules(CallStop.NEVER)
    with pytest.raises(ConfigurationError, match="'bad' cannot be enforced"):
        call_grammar(rules, {"bad": {"properties": {"x": {"type": "nothing"}}}})
    with pytest.raises(ConfigurationError, match="needs tools"):
        call_grammar(rules, {})
