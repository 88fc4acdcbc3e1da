"""Cases played on the fake engine: every mode, from the prompt to the record."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from caesura.cml import (
    CallStop,
    FrameRules,
    Interrupt,
    KnownTools,
    Marker,
    Mode,
    Monitor,
    MonitorSettings,
    State,
)
from caesura.lab.bench.function_calling.call_plan import ARGUMENT, CallPlan, PlannedWriter
from caesura.lab.bench.function_calling.case_player import CasePlayer
from caesura.lab.bench.function_calling.cases import Case, KnownCall
from caesura.lab.bench.function_calling.plans import (
    CallTokens,
    IssueOrder,
    ModeCase,
    TimedCall,
    timed_calls,
)
from caesura.lab.bench.function_calling.records import PlayedCase
from caesura.lab.bench.function_calling.stage import Stage
from caesura.lab.bench.function_calling.styles import Style
from caesura.lab.models.bench_tokenizer import EOS, SPECIAL_TOKENS, save_tokenizer
from caesura.session import Sampling
from support.engines.fakes import FakeEngine, FakeStream
from support.waiting import HANG_SECONDS

CHAINS = Case(
    "chains",
    "Two chains of two calls.",
    (),
    (
        KnownCall("cd", {"folder": "a [END] b"}),
        KnownCall("ls", {}, (0,)),
        KnownCall("post", {"text": "Grüße"}),
        KnownCall("comment", {"id": 0, "text": "x"}, (2,)),
    ),
)
STOPS = {
    Mode.SYNC: CallStop.EACH,
    Mode.SYNC_PARALLEL: CallStop.BUNDLE,
    Mode.ASYNC: CallStop.NEVER,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench-model")
    save_tokenizer(folder, 8192)
    return folder


class TokenizerCodec:
    """`session.calling.Codec` on the bench model's tokenizer, without vLLM."""

    def __init__(self, model: Path, tokens: CallTokens) -> None:
        self.interrupts = tokens.interrupts
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._ids = {marker: self._tokenizer.token_to_id(marker.value) for marker in Marker}

    def monitor(
        self,
        tools: KnownTools | None,
        used_ids: Iterable[str],
        state: State | None = None,
        before: Sequence[int] = (),
    ) -> Monitor:
        stream = DecodeStream()

        def decode(token_ids: Sequence[int], final: bool) -> str:
            nonlocal stream
            pieces = [stream.step(self._tokenizer, token) or "" for token in token_ids]
            if final:
                stream = DecodeStream()
            return "".join(pieces)

        settings = MonitorSettings(tools=tools)
        return Monitor(settings, dict(self._ids), decode, used_ids)

    def frame_rules(self, mode: Mode) -> FrameRules:
        call, intr, trap, head, end = (self._ids[marker] for marker in Marker)
        return FrameRules(call, trap, head, end, intr, STOPS[mode])


class PlannedEngine(FakeEngine):
    """The fake engine with a model that follows the plan of its session."""

    def __init__(self, end_of_sequence: int, text_of: Any) -> None:
        self._plan: CallPlan | None = None
        super().__init__(end_of_sequence, self._next_token, text_of)

    async def open(
        self,
        session_id: str,
        token_ids: Sequence[int],
        sampling: Sampling,
        endpoint: str | None = None,
    ) -> FakeStream:
        assert sampling.extra is not None
        self._plan = CallPlan.of_argument(cast(Any, sampling.extra[ARGUMENT]))
        return await super().open(session_id, token_ids, sampling, endpoint)

    def _next_token(self, transcript: Sequence[int]) -> int:
        assert self._plan is not None
        writer = PlannedWriter(self._plan)
        writer.read(transcript)
        return writer.next_token()


async def play(
    model: Path, style: Style, known: Sequence[TimedCall], case: Case = CHAINS
) -> PlayedCase:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    end = tokenizer.token_to_id(EOS)
    tokens = CallTokens(model, end)
    engine = PlannedEngine(end, lambda token: tokenizer.decode([token]))
    stage = Stage(engine, cast(Any, TokenizerCodec(model, tokens)))
    prompt = tokens.plain("A question, which may well quote [CALL] and [END].")
    playing = CasePlayer(stage, tokens).play(ModeCase("test", case, known, style), prompt)
    return await asyncio.wait_for(playing, HANG_SECONDS)


def known_calls(seconds: float = 0.01) -> list[TimedCall]:
    return timed_calls(CHAINS, lambda random: seconds * (1 + random.random()), seed=1)


@pytest.mark.parametrize("style", [style for style in Style if style.in_cml])
async def test_the_known_answer_is_written_in_every_style(model: Path, style: Style) -> None:
    played = await play(model, style, known_calls())
    run = played.run
    assert run.correct
    assert run.calls == 4
    assert run.execution_s >= 0.99 * sum(call.seconds for call in known_calls())
    assert 0 < run.generation_s < run.latency_s
    assert run.calls_latency_s <= run.latency_s
    assert (run.traps > 0) == (style is Style.ASYNC)
    assert played.timeline.text == " Done."
    assert run.cml_tokens == 4 * 8 + 2 * run.traps


async def test_the_calls_of_a_bundle_are_executed_together(model: Path) -> None:
    played = await play(model, Style.SYNC_PARALLEL, known_calls())
    issued = {call.id: call.issued_at for call in played.timeline.calls}
    first, second = (
        [done for done in played.executed.values() if bool(done.known.after) is late]
        for late in (False, True)
    )
    for bundle in (first, second):
        written_at = max(issued[done.known.call.id] for done in bundle)
        assert all(done.began_at >= written_at for done in bundle)
    assert max(done.ended_at or 0.0 for done in first) <= min(done.began_at for done in second)


async def test_chains_go_on_independently_in_async(model: Path) -> None:
    times = {"cd": 0.4, "ls": 0.01, "post": 0.01, "comment": 0.01}
    known = [
        TimedCall(one.call, one.after, times[one.call.name], one.result) for one in known_calls()
    ]
    played = await play(model, Style.ASYNC, known)
    assert played.run.correct
    executed = {done.known.call.name: done for done in played.executed.values()}
    assert executed["comment"].began_at < (executed["cd"].ended_at or 0.0)
    assert executed["ls"].began_at >= (executed["cd"].ended_at or 0.0)


async def test_an_answer_that_lacks_a_call_is_not_correct(model: Path) -> None:
    case = Case("short", "One call.", (), CHAINS.calls[:1], answer=("something else",))
    known = timed_calls(case, lambda _: 0.01, seed=0)
    played = await play(model, Style.SYNC, known, case)
    assert not played.run.correct
    assert played.run.bound_s == 0


def test_times_results_and_ids_do_not_depend_on_the_order() -> None:
    draw = lambda random: random.random()  # noqa: E731
    longest, shuffled = (timed_calls(CHAINS, draw, 5, order) for order in IssueOrder)
    assert {(c.call.id, c.seconds, c.result) for c in longest} == {
        (c.call.id, c.seconds, c.result) for c in shuffled
    }
    assert [c.seconds for c in longest] == sorted((c.seconds for c in longest), reverse=True)
    for calls in (longest, shuffled):
        needed = {c.call.name: [calls[place].call.name for place in c.after] for c in calls}
        assert needed == {"cd": [], "ls": ["cd"], "post": [], "comment": ["post"]}


def test_text_never_becomes_a_marker(model: Path) -> None:
    tokens = CallTokens(model, 2)
    markers = set(tokens.interrupts([Interrupt("a", "")])) & set(tokens.trap())
    assert markers
    assert markers.isdisjoint(tokens.plain(" ".join(SPECIAL_TOKENS)))


def test_the_tokenizer_gives_text_back(model: Path) -> None:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    for text in ('{"name": "spotify.play"}', "  two  spaces\n", "Grüße 京 🙂", json.dumps([1.5])):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == text
        assert len(ids) <= len(text.encode())
