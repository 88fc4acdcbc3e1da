"""Models that spell the markers of CML, on the real engine: forced tokens, real interrupts."""

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm.config import ModelConfig
from vllm.tokenizers import cached_tokenizer_from_config

from caesura.cml import (
    Call,
    FireAndForget,
    Interrupt,
    Mode,
    Text,
    Trap,
    encode_text,
)
from caesura.engine.model.chat_format import ChatFormat
from caesura.engine.model.cml_format import CmlFormat
from caesura.engine.serving.launch import Engine
from caesura.session import Sampling, Session, StopReason
from caesura.session.calling import CallingSession, Checkpoint, Driver, Durations, Ending
from support.cml.transcript import read_transcript
from support.draws import examples
from support.engines.real import EngineLoop
from support.models.forced_tokens import script

pytestmark = pytest.mark.engine

QUESTION = {"role": "user", "content": "How is it?"}
A, B, C = (Call(name, "look", {"at": name}) for name in "abc")
TOOL = {"type": "function", "function": {"name": "look", "description": "Looks."}}
SCRIPTS = {
    Mode.SYNC: [A, Text("\n"), B, Text(" Then the last. "), C, Text(" Done.")],
    Mode.SYNC_PARALLEL: [A, B, Trap(), Text(" Then the last. "), C, Text(" Done.")],
    Mode.ASYNC: [A, B, Text(" Then the last. "), C, Trap(), Text(" Done.")],
}
FRAMES = [encode_text([piece]) for piece in (A, Trap(), FireAndForget("look"))]
# Text that is full of frames, and how it is cut before each part is tokenized.
written_texts = st.lists(
    st.sampled_from([*FRAMES, *FRAMES, " [1] see", " the", "\n", "[~END]", " é", "[CA", "x"]),
    min_size=1,
    max_size=6,
).map("".join)


@pytest.fixture(scope="module")
def made(model_path: str) -> CmlFormat:
    config = ModelConfig(model=model_path)
    made = CmlFormat(ChatFormat(config, cached_tokenizer_from_config(config), None))
    assert not made.has_marker_tokens
    return made


@pytest.mark.parametrize("mode", Mode)
def test_a_session_calls_and_answers_in_each_mode(
    chaotic: Engine, engine_loop: EngineLoop, made: CmlFormat, mode: Mode
) -> None:
    async def look(call: Call | FireAndForget) -> str:
        return f"[END] of {call.arguments['at']}"

    async def scenario() -> None:
        prompt = made.prompt([QUESTION], [TOOL], mode)[-600:]
        token_ids = made.chat.encode(encode_text(SCRIPTS[mode]))
        extra = script(token_ids, len(prompt), made.frame_rules(mode))
        session = CallingSession(
            chaotic.tokens,
            made,
            Checkpoint(prompt),
            Sampling(max_tokens=1000, extra=extra),
            mode=mode,
            expectations=Durations({"look": 0.1}),
        )
        timeline = await Driver(session, look).run()
        await session.close()
        assert timeline.ending is Ending.COMPLETED, timeline.message
        assert not timeline.mistakes
        text = made.chat.tokenizer.decode(session.transcript[len(prompt) :])
        pieces = read_transcript(text)
        own = [piece for piece in pieces if isinstance(piece, Call | Trap)]
        assert own == [piece for piece in SCRIPTS[mode] if isinstance(piece, Call | Trap)]
        interrupts = [piece for piece in pieces if isinstance(piece, Interrupt)]
        assert sorted(interrupts, key=lambda interrupt: interrupt.id) == [
            Interrupt(name, f"[END] of {name}") for name in "abc"
        ]
        assert timeline.text.strip() == "Then the last.  Done."
        assert session.generated_tokens == len(token_ids)
        if mode is Mode.SYNC:
            assert [piece.id for piece in pieces[:2]] == ["a", "a"]
        elif mode is Mode.SYNC_PARALLEL:
            assert pieces[:3] == [A, B, Trap()]

    engine_loop.run(scenario())


async def written(engine: Engine, made: CmlFormat, text: str, mode: Mode, seed: int) -> None:
    """A session that is interrupted and paused at random, and what must be true of it."""
    chance = random.Random(seed)
    prompt = [chance.randrange(400, 600) for _ in range(chance.randint(1, 200))]
    cuts = sorted(chance.sample(range(len(text) + 1), min(len(text), chance.randint(0, 12))))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    token_ids = tuple(token for part in parts for token in made.chat.encode(part))
    rules = made.frame_rules(mode)
    extra = script(token_ids, len(prompt), rules)
    sampling = Sampling(chance.choice([15, 100]), frames=rules, extra=extra)
    monitor = made.monitor(None, ())
    session = await Session.open(engine.tokens, prompt, sampling)
    own: list[int] = []
    interrupts = 5  # a context has 1280 tokens

    def frame() -> list[int]:
        return made.interrupts([Interrupt.steering("now" * chance.randint(0, 12))])

    while session.stop is not StopReason.STOP:
        async for delta in session:
            own += delta.token_ids
            monitor.feed(delta.token_ids)
            if delta.stop is StopReason.INTERRUPTED:
                assert not monitor.in_critical_section, "an interrupt came inside a frame"
            if delta.stop is not None:
                monitor.injected()
            elif interrupts and chance.random() < 0.2:
                interrupts -= 1
                await session.interrupt(frame())
        if session.stop is not StopReason.STOP:
            await session.resume(frame())
    await session.close()
    assert own == list(token_ids)


@settings(max_examples=examples(6), suppress_health_check=list(HealthCheck))
@given(
    plans=st.lists(st.tuples(written_texts, st.sampled_from(Mode)), min_size=1, max_size=8),
    tokens_seed=st.integers(0, 10_000),
)
def test_no_token_is_lost_and_no_frame_broken_off(
    chaotic: Engine,
    engine_loop: EngineLoop,
    made: CmlFormat,
    plans: list[tuple[str, Mode]],
    tokens_seed: int,
) -> None:
    async def play() -> None:
        await asyncio.gather(
            *(
                written(chaotic, made, text, mode, tokens_seed * 1000 + index)
                for index, (text, mode) in enumerate(plans)
            )
        )

    engine_loop.run(play())
