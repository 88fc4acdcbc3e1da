"""Sessions whose frames end their turns: what is kept of what was sampled, and in which order."""

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from caesura.session import CallStop, Delta, FrameRules, Sampling, Session, StopReason
from support.engines.fakes import FakeEngine

EOS, CALL, TRAP, HEAD, END, INTR = range(6)
PROMPT = [50]
RESULT = [INTR, 60, HEAD, 61, END]


def sampling(calls: CallStop = CallStop.NEVER, max_tokens: int = 50) -> Sampling:
    return Sampling(max_tokens, frames=FrameRules(CALL, TRAP, HEAD, END, INTR, calls))


def scripted(*script: int) -> FakeEngine:
    """Writes the script, whatever is injected, and then ends the sequence."""

    def model(transcript: Sequence[int]) -> int:
        generated = iter(transcript[len(PROMPT) :])
        position = 0
        for token in generated:
            if token == INTR:
                while next(generated) != END:
                    pass
            else:
                position += 1
        return script[position] if position < len(script) else EOS

    return FakeEngine(eos_token_id=EOS, model=model)


async def until_pause(session: Session) -> list[Delta]:
    return [delta async for delta in session]


def test_a_trap_pauses_behind_it_and_the_end_of_the_sequence_is_not_kept() -> None:
    async def scenario() -> None:
        session = await Session.open(scripted(10, TRAP, END, 11), PROMPT, sampling())
        deltas = await until_pause(session)
        assert (deltas[-1].stop, deltas[-1].stop_token_id) == (StopReason.FRAME, END)
        assert session.transcript == [*PROMPT, 10, TRAP, END]
        await session.resume(RESULT)
        deltas = await until_pause(session)
        assert (deltas[-1].stop, deltas[-1].stop_token_id) == (StopReason.STOP, EOS)
        assert session.transcript == [*PROMPT, 10, TRAP, END, *RESULT, 11]

    asyncio.run(scenario())


def test_a_bundle_of_calls_pauses_before_what_follows_it() -> None:
    async def scenario() -> None:
        calls = [CALL, 20, HEAD, 21, END, CALL, 22, HEAD, 23, END]
        session = await Session.open(scripted(*calls, 30, 31), PROMPT, sampling(CallStop.BUNDLE))
        [*_, last] = await until_pause(session)
        assert (last.stop, last.stop_token_id) == (StopReason.FRAME, None)
        assert session.transcript == [*PROMPT, *calls]
        await session.resume(RESULT)
        await until_pause(session)
        assert session.transcript == [*PROMPT, *calls, *RESULT, 30, 31]

    asyncio.run(scenario())


def test_an_interrupt_waits_for_the_end_of_a_frame_and_takes_the_next_place() -> None:
    async def scenario() -> None:
        call = [CALL, 20, HEAD, 21, END]
        session = await Session.open(scripted(*call, 30), PROMPT, sampling())
        stops = []
        async for delta in session:
            if delta.token_ids == (20,):
                await session.interrupt(RESULT)
            if delta.stop is not None:
                stops.append(delta.stop)
        assert session.transcript == [*PROMPT, *call, *RESULT, 30]
        assert stops == [StopReason.INTERRUPTED, StopReason.STOP]

    asyncio.run(scenario())


@given(
    st.lists(st.integers(CALL, END) | st.integers(10, 40), max_size=30),
    st.sets(st.integers(0, 30), max_size=6),
    st.sampled_from(CallStop),
)
def test_whatever_is_injected_the_model_writes_its_script(
    script: list[int], interrupted_at: set[int], calls: CallStop
) -> None:
    async def scenario() -> None:
        session = await Session.open(scripted(*script), PROMPT, sampling(calls))
        injected, seen = [], 0
        while session.stop is not StopReason.STOP:
            async for delta in session:
                seen += len(delta.token_ids)
                if seen in interrupted_at and delta.stop is None:
                    interrupted_at.discard(seen)
                    injected.append([INTR, 60 + len(injected), HEAD, END])
                    await session.interrupt(injected[-1])
            if session.stop is StopReason.FRAME:
                injected.append([INTR, 60 + len(injected), HEAD, END])
                await session.resume(injected[-1])
        written = list(session.transcript[len(PROMPT) :])
        for frame in injected:
            [start] = [index for index, token in enumerate(written) if token == frame[1]]
            assert written[start - 1 : start + 3] == frame, "in one piece"
            del written[start - 1 : start + 3]
        assert written == script

    asyncio.run(scenario())
