"""Cases played with futures: the server's sessions, the scheduler that serves, no model."""

import asyncio
import random

import pytest

from caesura.engine.config import CaesuraConfig
from caesura.lab.bench.function_calling.cases import Case, KnownCall
from caesura.lab.bench.function_calling.futures_player import FuturesPlayer
from caesura.lab.bench.function_calling.native_format import NativeFormat
from caesura.lab.bench.function_calling.plans import CallTokens, ModeCase, timed_calls
from caesura.lab.bench.function_calling.records import PlayedCase
from caesura.lab.bench.function_calling.styles import Style
from caesura.lab.bench.function_calling.vllm_native_dialogue import native_dialogue
from caesura.lab.models.bench_model import bench_model_path
from caesura.lab.sim.vllm_planned_engine import PlannedEngine, VirtualTokenEngine


def tool(name: str) -> dict[str, object]:
    parameters = {"type": "object", "properties": {"x": {}}}
    return {
        "type": "function",
        "function": {"name": name, "description": "", "parameters": parameters},
    }


CASE = Case(
    "case",
    "Which files are there?",
    (tool("cd"), tool("ls.all"), tool("other")),
    (
        KnownCall("cd", {"x": "a <b>"}),
        KnownCall("ls.all", {}, (0,)),
        KnownCall("cd", {"x": [1, {"y": "Grüße"}]}),
        KnownCall("cd", {"x": [1, {"y": "Grüße"}]}),  # the same again
    ),
)


async def play(case: Case) -> PlayedCase:
    model = bench_model_path()
    engine = PlannedEngine(model, 1e-4, 2**14, CaesuraConfig.parse({"policy": "preserve"}))
    tokens = VirtualTokenEngine(engine)
    stepping = asyncio.create_task(tokens.run())
    known = timed_calls(case, random.Random.random, seed=1)
    form, call_tokens = NativeFormat(model), CallTokens(model, engine.tokenizer.eos_token_id)
    dialogue = native_dialogue(engine.model_config, engine.tokenizer)
    try:
        async with FuturesPlayer(tokens, dialogue, form, call_tokens) as player:
            return await player.play_alone(ModeCase("test", case, known, Style.FUTURES))
    finally:
        stepping.cancel()


async def test_the_known_answer_is_written_behind_the_results_that_it_needs() -> None:
    played = await play(CASE)
    run, timeline = played.run, played.timeline
    assert run.correct
    assert run.calls == 4
    assert run.traps >= 1
    assert timeline.text == " Done."
    spans = {span.id: span for span in timeline.calls}
    ended = {done.known.call.id: done.ended_at for done in played.executed.values()}
    cd, ls = (call_id for call_id in ("a", "b"))
    assert spans[ls].opened_at > (ended[cd] or float("inf"))
    others = [spans[call_id] for call_id in ("c", "d")]
    assert all(
        span.issued_at < (ended[cd] or 0.0) or span.issued_at < spans[ls].opened_at
        for span in others
    )
    assert 0 < run.bound_s <= run.calls_latency_s < run.latency_s


@pytest.mark.parametrize("answer", ["something else"])
async def test_another_answer_is_not_correct(answer: str) -> None:
    case = Case("short", "One call.", CASE.tools, CASE.calls[2:3], answer=(answer,))
    played = await play(case)
    assert not played.run.correct
    assert played.run.bound_s == 0
