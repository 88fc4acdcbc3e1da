import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from caesura.lab.bench.prompts import Prompts
from caesura.lab.bench.replay import ReplayEnding, ReplayError, ReplayProgress, ReplayRecord, replay
from caesura.lab.bench.workload import Segment, WorkloadSession
from caesura.session import Sampling
from support.engines.fakes import VOCAB_SIZE, FakeEngine, FakeStream, continuation

PROMPTS = Prompts(vocab_size=VOCAB_SIZE, seed=1)
AN_AGE_SECONDS = 3600.0


def spec(name: str, *, turns: int = 3, pause_seconds: float = 1e-4) -> WorkloadSession:
    segments = [Segment(4 + turn, 2 + turn, pause_seconds, f"tool-{turn}") for turn in range(turns)]
    segments[-1] = replace(segments[-1], pause_seconds=None, endpoint=None)
    return WorkloadSession(name, "kind", tuple(segments))


def run(
    engine: FakeEngine,
    sessions: Sequence[WorkloadSession],
    arrivals_seconds: Sequence[float] | None = None,
    time_limit_seconds: float | None = None,
) -> ReplayRecord:
    arrivals_seconds = arrivals_seconds or [0.001 * index for index in range(len(sessions))]
    return asyncio.run(
        replay(engine, sessions, arrivals_seconds, PROMPTS, time_limit_seconds=time_limit_seconds)
    )


def test_every_turn_gets_the_tokens_that_were_asked_for() -> None:
    engine = FakeEngine()
    sessions = [spec("a"), spec("b", turns=1), spec("c", turns=5)]
    record = run(engine, sessions)
    for planned, played in zip(sessions, record.sessions, strict=True):
        assert played.id == planned.id
        assert played.ending is ReplayEnding.COMPLETED
        assert [(t.append_tokens, t.output_tokens, t.endpoint) for t in played.turns] == [
            (s.append_tokens, s.output_tokens, s.endpoint) for s in planned.segments
        ]
    assert not engine.open_ids


def test_the_engine_sees_prompts_outputs_and_endpoints_in_order() -> None:
    engine = FakeEngine()
    sessions = [spec("a"), spec("b")]
    run(engine, sessions)
    for index, planned in enumerate(sessions):
        stream = engine.streams[f"replay-{index}-{planned.id}"]
        transcript: list[int] = []
        for tokens, segment in zip(PROMPTS.of(index, planned), planned.segments, strict=True):
            transcript += tokens
            transcript += continuation(transcript, segment.output_tokens)
        assert stream.transcript == transcript
        assert stream.endpoints == [segment.endpoint for segment in planned.segments]


def test_a_turn_starts_after_the_pause_that_follows_the_turn_before() -> None:
    sessions = [spec("a", pause_seconds=0.003), spec("b", pause_seconds=0.0)]
    record = run(FakeEngine(), sessions, arrivals_seconds=[0.0, 0.002])
    for planned, played, arrival in zip(sessions, record.sessions, [0.0, 0.002], strict=True):
        assert played.arrived_at == pytest.approx(record.started_at + arrival)
        assert played.turns[0].submitted_at >= played.arrived_at
        for turn in played.turns:
            assert turn.first_token_at is not None
            assert turn.finished_at is not None
            assert turn.submitted_at <= turn.first_token_at <= turn.finished_at
        for segment, turn, following in zip(
            planned.segments, played.turns, played.turns[1:], strict=False
        ):
            assert turn.finished_at is not None
            assert segment.pause_seconds is not None
            assert following.submitted_at - turn.finished_at >= segment.pause_seconds


def test_the_context_that_an_engine_did_not_compute_again_is_recorded() -> None:
    record = run(FakeEngine(), [spec("a", turns=2)])
    assert [turn.cached_tokens for turn in record.sessions[0].turns] == [0, 6]


def test_at_the_time_limit_unfinished_sessions_are_closed_and_not_completed() -> None:
    engine = FakeEngine()
    sessions = [spec("quick"), spec("slow", pause_seconds=AN_AGE_SECONDS), spec("late")]
    record = run(engine, sessions, [0.0, 0.0, AN_AGE_SECONDS], time_limit_seconds=0.5)
    quick, slow, late = record.sessions
    assert quick.ending is ReplayEnding.COMPLETED
    assert slow.ending is late.ending is ReplayEnding.TIME_LIMIT
    assert len(slow.turns) == 1
    assert late.turns == ()
    assert not engine.open_ids


class StingyEngine(FakeEngine):
    """Generates one token less than asked when a turn asks for 4."""

    async def open(
        self,
        session_id: str,
        token_ids: Sequence[int],
        sampling: Sampling,
        endpoint: str | None = None,
    ) -> FakeStream:
        stream = await super().open(session_id, token_ids, sampling, endpoint)
        extend = stream.extend

        async def stingy_extend(
            token_ids: Sequence[int], sampling: Sampling, endpoint: str | None = None
        ) -> None:
            tokens = 3 if sampling.max_tokens == 4 else sampling.max_tokens
            await extend(token_ids, replace(sampling, max_tokens=tokens), endpoint)

        stream.extend = stingy_extend  # type: ignore[method-assign]
        return stream


def test_a_turn_of_the_wrong_length_ends_the_replay_and_closes_all() -> None:
    engine = StingyEngine()
    sessions = [spec("endless", pause_seconds=AN_AGE_SECONDS), spec("wronged")]
    with pytest.raises(ReplayError, match=r"wronged, turn 3: asked for 4 tokens and received 3"):
        run(engine, sessions)
    assert not engine.open_ids


def test_a_cancelled_replay_closes_its_sessions() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        paused = asyncio.Event()

        def on_progress(progress: ReplayProgress) -> None:
            if progress.output_tokens:
                paused.set()

        endless = [spec("endless", pause_seconds=AN_AGE_SECONDS)]
        task = asyncio.create_task(replay(engine, endless, [0.0], PROMPTS, on_progress=on_progress))
        await paused.wait()
        assert engine.open_ids
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not engine.open_ids

    asyncio.run(scenario())


def test_progress_counts_sessions_and_tokens() -> None:
    seen: list[ReplayProgress] = []
    sessions = [spec("a"), spec("b", turns=1)]
    asyncio.run(replay(FakeEngine(), sessions, [0.0, 0.001], PROMPTS, on_progress=seen.append))
    assert seen[-1] == ReplayProgress(sessions=2, started=2, finished=2, output_tokens=11)
    finished = [progress.finished for progress in seen]
    assert finished == sorted(finished)


def test_what_cannot_be_replayed_is_refused() -> None:
    with pytest.raises(ValueError, match="no sessions"):
        run(FakeEngine(), [])
    with pytest.raises(ValueError, match="zip"):
        run(FakeEngine(), [spec("a"), spec("b")], [0.0])
