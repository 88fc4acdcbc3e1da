"""Sessions on the real engine: limits, typed errors, forward progress."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from caesura.engine.config import CaesuraConfig
from caesura.engine.metrics import counter_key
from caesura.engine.serving.launch import Engine, EngineSettings
from caesura.engine.serving.notifications import report_progress
from caesura.session import (
    ContextFull,
    DuplicateSession,
    NotGenerating,
    NotPaused,
    Sampling,
    Session,
    SessionClosed,
    StopReason,
)
from support.engines.real import KV_BLOCKS, Control, EngineLoop, running
from support.models.small import BLOCK_SIZE, kv_bytes

pytestmark = pytest.mark.engine

MAX_PAUSES = 25
CONTEXT_TOKENS = (KV_BLOCKS - 1) * BLOCK_SIZE
TEN = Sampling(max_tokens=10, ignore_eos=True)


@pytest.fixture(scope="module")
def engine(engine_loop: EngineLoop, model_path: str) -> Iterator[Engine]:
    settings = EngineSettings(
        model_path,
        caesura=CaesuraConfig(
            policy="preserve",
            policy_options={
                "patience_factor": 1e6,
                "patience_floor_seconds": 1e6,  # no hold is ever past break-even
                "starvation_seconds": 2.0,
            },
            max_pauses=MAX_PAUSES,
            check_integrity=True,
        ),
        kv_memory_bytes=kv_bytes(KV_BLOCKS),
        dtype="float32",
        max_model_len=CONTEXT_TOKENS,
        max_num_seqs=4,
        compute_threads=1,
    )
    with running(engine_loop, settings) as engine:
        yield engine


def prompt(seed: int, tokens: int) -> list[int]:
    return [(seed * 7919 + index * 31) % 1000 for index in range(tokens)]


async def until_pause(session: Session) -> list[int]:
    tokens: list[int] = []
    async for delta in session:
        tokens += delta.token_ids
    return tokens


async def paused(engine: Engine, seed: int, tokens: int) -> Session:
    session = await Session.open(engine.tokens, prompt(seed, tokens), TEN)
    assert len(await until_pause(session)) == 10
    return session


def test_many_more_parked_sessions_than_the_engine_runs_or_remembers(
    engine: Engine, control: Control, engine_loop: EngineLoop
) -> None:
    """Past `max_pauses` the engine lets sessions go; they go on as if it had not."""

    async def scenario() -> None:
        sessions = await asyncio.gather(*(paused(engine, seed, 20 + seed) for seed in range(80)))
        assert (
            engine.counts.totals[counter_key("pause_endings", "client", "forgotten")]
            >= 80 - MAX_PAUSES
        )
        for session in sessions:
            await session.resume(prompt(3, 5))
        await asyncio.gather(*(until_pause(session) for session in sessions))
        for seed, session in enumerate(sessions):
            context = session.transcript[: 20 + seed + 10 + 5]
            assert session.transcript[len(context) :] == await control.generate(context, 10)
            await session.close()

    engine_loop.run(scenario())


def test_errors_are_typed_and_nothing_is_lost(engine: Engine, engine_loop: EngineLoop) -> None:
    async def scenario() -> None:
        session = await Session.open(engine.tokens, prompt(1, 30), TEN, session_id="one")
        with pytest.raises(NotPaused):
            await session.resume([1])
        await until_pause(session)
        before = list(session.transcript)
        with pytest.raises(NotGenerating):
            await session.interrupt([1])
        with pytest.raises(DuplicateSession):
            await Session.open(engine.tokens, [1, 2], TEN, session_id="one")
        with pytest.raises(ContextFull, match=str(CONTEXT_TOKENS)):
            await session.resume(prompt(2, CONTEXT_TOKENS))
        with pytest.raises(ContextFull):
            await Session.open(engine.tokens, prompt(2, CONTEXT_TOKENS), TEN)
        assert session.transcript == before
        await session.resume([5, 6])
        assert len(await until_pause(session)) == 10
        await session.close()
        await session.close()
        for call in (session.resume, session.interrupt):
            with pytest.raises(SessionClosed):
                await call([1])
        again = await Session.open(engine.tokens, [1, 2, 3], TEN, session_id="one")
        await again.close()

    engine_loop.run(scenario())


def test_progress_reaches_the_scheduler_and_what_is_over_is_ignored(
    engine: Engine, control: Control, engine_loop: EngineLoop
) -> None:
    async def scenario() -> None:
        before = engine.counts.totals[counter_key("progress_reports", "client")]
        session = await paused(engine, 7, 60)
        await session.progress(fraction=0.5)
        await session.progress(remaining_seconds=0.01)
        await report_progress(engine.llm, "nobody", 0.5, None)
        await session.resume(prompt(8, 5))
        await until_pause(session)
        assert engine.counts.totals[counter_key("progress_reports", "client")] == before + 2
        context = session.transcript[:-10]
        assert session.transcript[-10:] == await control.generate(context, 10)
        await session.close()

    engine_loop.run(scenario())


def test_a_pause_is_named_after_the_fact(engine: Engine, engine_loop: EngineLoop) -> None:
    async def scenario() -> None:
        session = await paused(engine, 9, 60)
        await session.progress(endpoint="search+mail")
        await session.progress(remaining_seconds=5.0, endpoint="search")
        await session.resume(prompt(8, 5))
        await until_pause(session)
        totals = engine.counts.totals
        assert totals[counter_key("progress_reports", "search")] == 1
        assert totals[counter_key("pause_endings", "search+mail", "renamed")] == 1
        assert totals[counter_key("pause_endings", "search", "resumed")] == 1
        assert totals[counter_key("paused_seconds", "search")] > 0
        await session.close()

    engine_loop.run(scenario())


def test_a_context_that_fills_up_stops_by_length(engine: Engine, engine_loop: EngineLoop) -> None:
    async def scenario() -> None:
        tokens = prompt(4, CONTEXT_TOKENS - 6)
        session = await Session.open(
            engine.tokens, tokens, Sampling(max_tokens=100, ignore_eos=True)
        )
        await until_pause(session)
        assert session.stop is StopReason.LENGTH
        assert len(session.transcript) == CONTEXT_TOKENS
        with pytest.raises(ContextFull):
            await session.resume([1])
        await session.close()

    engine_loop.run(scenario())


def test_an_interrupt_that_fills_the_context_is_placed_and_stops_by_length(
    engine: Engine, engine_loop: EngineLoop
) -> None:
    async def scenario() -> None:
        tokens = prompt(5, CONTEXT_TOKENS - 60)
        sampling = Sampling(max_tokens=100, ignore_eos=True)
        session = await Session.open(engine.tokens, tokens, sampling)
        # There is room for this one as long as nobody has read what is generated.
        long = prompt(6, 59)
        await session.interrupt(long)
        await until_pause(session)
        assert session.stop is StopReason.LENGTH
        assert session.transcript[-59:] == long
        assert len(session.transcript) >= CONTEXT_TOKENS
        with pytest.raises(ContextFull):
            await session.resume([1])
        await session.close()

    engine_loop.run(scenario())


def test_a_pool_full_of_paused_sessions_lets_running_and_new_ones_on(
    engine: Engine, engine_loop: EngineLoop
) -> None:
    """Earlier sessions hold all memory and no hold is past break-even: the bound applies.

    `virtual/test_forward_progress.py` shows after how long each of them goes on.
    """

    async def scenario() -> None:
        sessions = [await paused(engine, seed, 180) for seed in range(6)]
        longest = prompt(99, CONTEXT_TOKENS - 40)
        newcomer = await Session.open(engine.tokens, longest, TEN)
        assert len(await until_pause(newcomer)) == 10
        await newcomer.close()
        sessions += [await paused(engine, seed, 180) for seed in range(6, 11)]
        runner = await Session.open(
            engine.tokens, prompt(50, 40), Sampling(max_tokens=300, ignore_eos=True)
        )
        produced = 0
        second = None
        async for delta in runner:
            produced += len(delta.token_ids)
            if produced == 20:
                second = await Session.open(engine.tokens, prompt(98, 600), TEN)
        assert produced == 300, "a running request takes the blocks that it needs"
        assert second is not None
        assert len(await until_pause(second)) == 10
        for session in [*sessions, runner, second]:
            await session.close()

    engine_loop.run(scenario())


async def first_delta(engine: Engine, token_ids: list[int], salt: str | None) -> int | None:
    """How many tokens of a context a new session found."""
    sampling = replace(TEN, salt=salt)
    session = await Session.open(engine.tokens, token_ids, sampling)
    async for delta in session:
        await session.close()
        return delta.cached_tokens
    raise AssertionError


def test_contexts_of_other_salts_are_not_found(engine: Engine, engine_loop: EngineLoop) -> None:
    async def scenario() -> list[int | None]:
        token_ids = prompt(77, 6 * BLOCK_SIZE)
        return [await first_delta(engine, token_ids, salt) for salt in ("a", "a", "b", None, "b")]

    first, again, other, none, other_again = engine_loop.run(scenario())
    assert (first, other, none) == (0, 0, 0)
    assert again == other_again
    assert (again or 0) >= 5 * BLOCK_SIZE
