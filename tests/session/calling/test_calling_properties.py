"""Any script, any arrival, any reader: nothing is lost, doubled, reordered or put in a frame."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from caesura.cml import AtEnd, Call, FireAndForget, Interrupt, Mode, Piece, Text, Trap
from caesura.session import Sampling
from caesura.session.calling import Ending, Mistake
from session.calling.byte_model import compact, eager, engine, written
from session.calling.play import Play

TEXTS = st.sampled_from(
    [" ", "\n", "word", " two words. ", "12345678901234567890", "[END", "ä ", "[END]", "[~CALL]"]
)


@st.composite
def scripts(draw: st.DrawFn) -> list[Piece]:
    made: list[Piece] = []
    for _ in range(draw(st.integers(1, 8))):
        match draw(st.sampled_from(["call", "call", "call", "text", "text", "trap", "off"])):
            case "call":
                made.append(Call(f"c{len(made)}", "f"))
            case "text":
                made.append(Text(draw(TEXTS)))
            case "trap":
                made.append(Trap())
            case "off":
                made.append(FireAndForget("g"))
    return made


MOMENTS = st.integers(0, 150)


@given(
    script=scripts(),
    arrives=st.dictionaries(st.integers(0, 7).map("c{}".format), MOMENTS),
    steering=st.dictionaries(MOMENTS, st.sampled_from(["hm", "[END]", ""]), max_size=3),
    mode=st.sampled_from(Mode),
    at_end=st.sampled_from(AtEnd),
    make=st.sampled_from([engine, eager]),
    max_tokens=st.one_of(st.just(10_000), st.integers(1, 200)),
)
def test_any_session_keeps_the_rules(
    script: list[Piece],
    arrives: dict[str, int],
    steering: dict[int, str],
    mode: Mode,
    at_end: AtEnd,
    make,
    max_tokens: int,
) -> None:
    async def scenario() -> None:
        sampling = Sampling(max_tokens=max_tokens)
        played = Play(make(script), mode, arrives, steering, at_end=at_end, sampling=sampling)
        await played.run()
        assert played.session.generated_tokens <= max_tokens
        if played.ended.ending is not Ending.COMPLETED:
            return
        played.check()
        own = [token for token in script if isinstance(token, Call)]
        assert [p for p in played.pieces if isinstance(p, Call)] == own
        assert played.session.generated_tokens == len(written(compact(script)))
        waits = mode is not Mode.ASYNC or at_end is AtEnd.WAIT
        assert not (waits and played.ended.pending)
        assert all(event.error.kind == "nothing_pending" for event in played.of(Mistake))

    asyncio.run(scenario())


@given(data=st.data(), script=scripts(), mode=st.sampled_from(Mode))
def test_any_restart_keeps_what_was_written_and_arrived(
    data: st.DataObject, script: list[Piece], mode: Mode
) -> None:
    """Sessions that are closed after any event, and go on from their checkpoint."""

    async def scenario() -> None:
        start = None
        written_calls: list[str] = []
        injected: list[str] = []
        delivered: list[str] = []
        texts: list[str] = []
        for _ in range(200):
            played = Play(eager(script), mode, **({} if start is None else {"start": start}))
            lives = data.draw(st.integers(1, 12))
            ended = False
            async for event in played.session.events():
                lives -= 1
                match type(event).__name__:
                    case "TextWritten":
                        texts.append(event.text)
                    case "CallIssued":
                        written_calls.append(event.call.id)
                    case "Injected":
                        injected += [arrival.interrupt.id for arrival in event.arrivals]
                    case "Paused":
                        for call_id in sorted(event.pending):
                            played._deliver(Interrupt(call_id, "x"))
                    case "Ended":
                        ended = True
                if ended or (lives <= 0 and not played.session.in_critical_section):
                    break
            start = played.session.checkpoint()
            delivered += [interrupt.id for interrupt in played.delivered]
            await played.session.close()
            if ended:
                break
        calls = [piece.id for piece in script if isinstance(piece, Call)]
        if event.ending is Ending.COMPLETED:
            assert written_calls == calls
            results = [call_id for call_id in injected if call_id != "error"]
            assert results == delivered
            assert sorted(results) == sorted(calls)
        own = [piece for piece in played.pieces if isinstance(piece, Text)]
        assert "".join(texts) == "".join(piece.text for piece in own)

    asyncio.run(scenario())
