import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.session import (
    Delta,
    DuplicateSession,
    NotGenerating,
    NotPaused,
    Sampling,
    Session,
    SessionClosed,
    SessionDetached,
    SessionError,
    SessionState,
    StopReason,
)
from support.engines.fakes import FakeEngine, continuation, next_token

PROMPT = [5, 6, 7]
THREE_TOKENS = Sampling(max_tokens=3, ignore_eos=True)


@dataclass
class ScriptedStream:
    """A stream with deltas that are known beforehand; `error` is raised by `extend`."""

    script: Sequence[Delta]
    error: SessionError | None = None

    async def deltas(self) -> AsyncIterator[Delta]:
        for delta in self.script:
            yield delta

    async def extend(
        self, token_ids: Sequence[int], sampling: Sampling, endpoint: str | None = None
    ) -> None:
        if self.error is not None:
            raise self.error

    async def progress(
        self,
        *,
        fraction: float | None = None,
        remaining_seconds: float | None = None,
        endpoint: str | None = None,
    ) -> None:
        raise AssertionError("nothing is known of any progress")

    async def name_next_pause(self, endpoint: str) -> None:
        raise AssertionError("nothing is known of the next pause")

    async def close(self) -> None:
        self.script = ()


ENGINE_GONE = ScriptedStream((Delta((1,), StopReason.LENGTH),), SessionClosed("the engine is gone"))


async def outputs_of(session: Session) -> list[int]:
    return [token async for delta in session for token in delta.token_ids]


def test_session_generates_pauses_resumes_and_closes() -> None:
    async def scenario() -> None:
        session = await Session.open(FakeEngine(), PROMPT, THREE_TOKENS)
        assert session.state is SessionState.GENERATING
        assert session.stop is None
        first = await outputs_of(session)
        states = [session.state]
        assert first == continuation(PROMPT, 3)
        assert session.stop is StopReason.LENGTH
        await session.resume([8])
        states.append(session.state)
        second = await outputs_of(session)
        assert second == continuation([*PROMPT, *first, 8], 3)
        assert session.transcript == [*PROMPT, *first, 8, *second]
        await session.close()
        states.append(session.state)
        assert states == [SessionState.PAUSED, SessionState.GENERATING, SessionState.CLOSED]

    asyncio.run(scenario())


def test_stop_token_is_part_of_the_transcript() -> None:
    async def scenario() -> None:
        stop_token = continuation(PROMPT, 2)[-1]
        sampling = Sampling(max_tokens=9, stop_token_ids=(stop_token,), ignore_eos=True)
        session = await Session.open(FakeEngine(), PROMPT, sampling)
        deltas = [delta async for delta in session]
        assert session.stop is StopReason.STOP
        assert deltas[-1].stop_token_id == stop_token
        assert session.transcript[-1] == stop_token

    asyncio.run(scenario())


def test_end_of_sequence_stops_unless_it_is_ignored() -> None:
    async def scenario() -> None:
        engine = FakeEngine(eos_token_id=next_token(PROMPT))
        stopped = await Session.open(engine, PROMPT, Sampling(max_tokens=3))
        assert len(await outputs_of(stopped)) == 1
        ignoring = await Session.open(engine, PROMPT, THREE_TOKENS)
        assert len(await outputs_of(ignoring)) == 3

    asyncio.run(scenario())


def test_resume_while_generating_is_refused_and_changes_nothing() -> None:
    async def scenario() -> None:
        session = await Session.open(FakeEngine(), PROMPT, THREE_TOKENS)
        with pytest.raises(NotPaused, match="interrupt"):
            await session.resume([8])
        assert session.transcript == PROMPT
        assert await outputs_of(session) == continuation(PROMPT, 3)

    asyncio.run(scenario())


def test_interrupt_while_paused_is_refused_and_changes_nothing() -> None:
    async def scenario() -> None:
        session = await Session.open(FakeEngine(), PROMPT, THREE_TOKENS)
        before = [*PROMPT, *await outputs_of(session)]
        with pytest.raises(NotGenerating, match="resume"):
            await session.interrupt([8])
        assert session.transcript == before
        assert session.state is SessionState.PAUSED

    asyncio.run(scenario())


def test_interrupt_appears_in_the_transcript_where_it_was_injected() -> None:
    async def scenario() -> None:
        session = await Session.open(FakeEngine(), PROMPT, THREE_TOKENS)
        stops = []
        async for delta in session:
            if len(session.transcript) == len(PROMPT) + 1 and delta.stop is None:
                await session.interrupt([70, 71])
            if delta.stop is not None:
                stops.append(delta.stop)
        before = continuation(PROMPT, 1)
        interrupted = [*PROMPT, *before, 70, 71]
        assert session.transcript == [*interrupted, *continuation(interrupted, 3)]
        assert stops == [StopReason.INTERRUPTED, StopReason.LENGTH]
        assert session.state is SessionState.PAUSED

    asyncio.run(scenario())


def test_interrupt_before_the_first_token_follows_the_prompt() -> None:
    async def scenario() -> None:
        session = await Session.open(FakeEngine(), PROMPT, THREE_TOKENS)
        await session.interrupt([70])
        deltas = [delta async for delta in session]
        assert deltas[0] == Delta((), StopReason.INTERRUPTED)
        assert session.transcript == [*PROMPT, 70, *continuation([*PROMPT, 70], 3)]

    asyncio.run(scenario())


def test_interrupt_of_a_turn_that_has_stopped_unseen_starts_the_next_turn() -> None:
    async def scenario() -> None:
        turns = (Delta((1,), StopReason.LENGTH), Delta((2,), StopReason.LENGTH))
        session = Session(FakeEngine(), "s", ScriptedStream(turns), PROMPT, THREE_TOKENS)
        await session.interrupt([70])
        assert await outputs_of(session) == [1, 2]
        assert session.transcript == [*PROMPT, 1, 70, 2]
        assert session.state is SessionState.PAUSED

    asyncio.run(scenario())


@given(
    interrupts=st.lists(
        st.tuples(st.integers(0, 8), st.lists(st.integers(60, 90), min_size=1, max_size=3)),
        max_size=5,
    )
)
def test_transcript_is_the_engines_transcript_after_any_interrupts(
    interrupts: list[tuple[int, list[int]]],
) -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        session = await Session.open(engine, PROMPT, THREE_TOKENS, session_id="s")
        seen = 0
        async for _ in session:
            seen += 1
            for position, tokens in interrupts:
                if position == seen and session.state is SessionState.GENERATING:
                    await session.interrupt(tokens)
        assert session.transcript == engine.streams["s"].transcript
        assert session.state is SessionState.PAUSED

    asyncio.run(scenario())


@pytest.mark.parametrize("injected", [[], ()])
def test_no_tokens_are_refused_and_leave_later_interrupts_in_place(
    injected: Sequence[int],
) -> None:
    async def scenario() -> None:
        session = await Session.open(FakeEngine(), PROMPT, THREE_TOKENS)
        with pytest.raises(ValueError, match="at least one token"):
            await session.interrupt(injected)
        await session.interrupt([70])
        await outputs_of(session)
        assert session.transcript == [*PROMPT, 70, *continuation([*PROMPT, 70], 3)]
        with pytest.raises(ValueError, match="at least one token"):
            await session.resume(injected)
        assert session.state is SessionState.PAUSED

    asyncio.run(scenario())


def test_an_empty_prompt_is_refused() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        with pytest.raises(ValueError, match="at least one token"):
            await Session.open(engine, [], THREE_TOKENS)
        assert not engine.open_ids

    asyncio.run(scenario())


def test_closing_twice_is_allowed_and_everything_after_is_refused() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        session = await Session.open(engine, PROMPT, THREE_TOKENS)
        await session.close()
        await session.close()
        assert not engine.open_ids
        assert await outputs_of(session) == []
        with pytest.raises(SessionClosed):
            await session.resume([8])
        with pytest.raises(SessionClosed):
            await session.interrupt([8])

    asyncio.run(scenario())


def test_closing_ends_an_iteration_that_waits() -> None:
    async def scenario() -> None:
        session = await Session.open(FakeEngine(), PROMPT, Sampling(10**9, ignore_eos=True))
        outputs = asyncio.create_task(outputs_of(session))
        await asyncio.sleep(0)
        await session.close()
        assert len(await outputs) < 10
        assert session.state is SessionState.CLOSED

    asyncio.run(scenario())


def test_leaving_the_context_closes_the_session() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        async with await Session.open(engine, PROMPT, THREE_TOKENS) as session:
            assert engine.open_ids == {session.id}
        assert not engine.open_ids

    asyncio.run(scenario())


def test_ids_are_unique_among_open_sessions_only() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        session = await Session.open(engine, PROMPT, THREE_TOKENS, session_id="one")
        with pytest.raises(DuplicateSession):
            await Session.open(engine, PROMPT, THREE_TOKENS, session_id="one")
        await session.close()
        await Session.open(engine, PROMPT, THREE_TOKENS, session_id="one")

    asyncio.run(scenario())


def test_endpoints_reach_the_engine_with_their_turns() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        session = await Session.open(
            engine, PROMPT, THREE_TOKENS, session_id="s", endpoint="calculator"
        )
        await outputs_of(session)
        await session.resume([8], endpoint="human")
        await outputs_of(session)
        await session.resume([9])
        assert engine.streams["s"].endpoints == ["calculator", "human", None]

    asyncio.run(scenario())


def test_sampling_of_a_resume_stays_until_the_next() -> None:
    async def scenario() -> None:
        session = await Session.open(FakeEngine(), PROMPT, THREE_TOKENS)
        await outputs_of(session)
        await session.resume([8], Sampling(max_tokens=1, ignore_eos=True))
        assert len(await outputs_of(session)) == 1
        await session.resume([9])
        assert len(await outputs_of(session)) == 1

    asyncio.run(scenario())


def test_a_refused_resume_leaves_the_session_paused_with_its_transcript() -> None:
    async def scenario() -> None:
        session = Session(FakeEngine(), "s", ENGINE_GONE, PROMPT, THREE_TOKENS)
        await outputs_of(session)
        with pytest.raises(SessionClosed, match="gone"):
            await session.resume([8])
        assert session.transcript == [*PROMPT, 1]
        assert session.state is SessionState.PAUSED

    asyncio.run(scenario())


def test_a_refused_interrupt_is_not_in_the_transcript() -> None:
    async def scenario() -> None:
        session = Session(FakeEngine(), "s", ENGINE_GONE, PROMPT, THREE_TOKENS)
        with pytest.raises(SessionClosed, match="gone"):
            await session.interrupt([70])
        await outputs_of(session)
        assert session.transcript == [*PROMPT, 1]
        assert session.state is SessionState.PAUSED

    asyncio.run(scenario())


def test_session_is_closed_when_its_engine_request_ends() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        session = await Session.open(engine, PROMPT, THREE_TOKENS, session_id="s")
        await engine.streams["s"].close()
        assert await outputs_of(session) == []
        assert session.state is SessionState.CLOSED

    asyncio.run(scenario())


def test_a_session_that_is_let_go_goes_on_without_notice() -> None:
    """Before its tokens are sent, and just after."""

    class LetGo(FakeEngine):
        """Detaches its first stream: at `extend`, or when the next delta is asked for."""

        def __init__(self, late: bool) -> None:
            super().__init__()
            self.late = late
            self.opened = 0

        async def open(self, session_id, token_ids, sampling, endpoint=None):
            self.opened += 1
            stream = await super().open(session_id, token_ids, sampling, endpoint)
            return Detaching(stream, self.late) if self.opened == 1 else stream

    class Detaching:
        def __init__(self, stream, late: bool) -> None:
            self.stream, self.late, self.extended = stream, late, False

        async def deltas(self):
            async for delta in self.stream.deltas():
                if self.extended:
                    raise SessionDetached("late")
                yield delta

        async def extend(self, token_ids, sampling, endpoint=None):
            if not self.late:
                raise SessionDetached("early")
            self.extended = True
            await self.stream.extend(token_ids, sampling, endpoint)

        async def close(self):
            await self.stream.close()

    async def scenario(late: bool) -> None:
        engine = LetGo(late)
        session = await Session.open(engine, PROMPT, THREE_TOKENS)
        async for _ in session:
            pass
        context = [*session.transcript, 7, 8]
        await session.resume([7, 8])
        async for _ in session:
            pass
        assert engine.opened == 2
        assert session.transcript == context + continuation(context, 3)

    async def interrupted() -> None:
        session = await Session.open(LetGo(late=True), PROMPT, THREE_TOKENS)
        async for _ in session:
            pass
        context = [*session.transcript, 7, 8]
        await session.resume([7])
        await session.interrupt([8])
        stops = [delta.stop async for delta in session if delta.stop is not None]
        assert stops == [StopReason.INTERRUPTED, StopReason.LENGTH]  # one for each that was sent
        assert session.transcript == context + continuation(context, 3)

    for late in (False, True):
        asyncio.run(scenario(late))
    asyncio.run(interrupted())


def test_progress_of_what_a_paused_session_waits_for_reaches_the_engine() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        session = await Session.open(engine, PROMPT, THREE_TOKENS, session_id="one")
        with pytest.raises(NotPaused):
            await session.progress(fraction=0.5)
        await outputs_of(session)
        await session.progress(fraction=0.25)
        await session.progress(remaining_seconds=1.5)
        assert engine.streams["one"].reports == [(0.25, None), (None, 1.5)]
        await session.progress(endpoint="search")
        assert engine.streams["one"].endpoints == ["search"]
        await session.close()
        with pytest.raises(SessionClosed):
            await session.progress(fraction=0.5)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"fraction": 0.5, "remaining_seconds": 1.0},
        {"fraction": 1.01},
        {"fraction": float("nan")},
        {"remaining_seconds": -1.0},
        {"remaining_seconds": float("inf")},
    ],
    ids=str,
)
def test_progress_out_of_range_is_refused(report: dict[str, float]) -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        session = await Session.open(engine, PROMPT, THREE_TOKENS, session_id="one")
        await outputs_of(session)
        with pytest.raises(ValueError, match=r"progress|fraction|remaining"):
            await session.progress(**report)
        assert engine.streams["one"].reports == []

    asyncio.run(scenario())
