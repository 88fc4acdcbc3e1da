"""Calling sessions on the real engine: known answers, real pauses and interrupts."""

import pytest
from vllm.config import ModelConfig
from vllm.tokenizers import cached_tokenizer_from_config

from caesura.cml import (
    Call,
    FireAndForget,
    Interrupt,
    Mode,
    Text,
    Trap,
)
from caesura.engine.model.chat_format import ChatFormat
from caesura.engine.model.cml_format import CmlFormat
from caesura.engine.serving.launch import Engine
from caesura.session import Sampling
from caesura.session.calling import CallingSession, Checkpoint, Driver, Durations, Ending, Timeline
from support.cml.streams import encode_text
from support.cml.transcript import read_transcript
from support.engines.real import EngineLoop
from support.models.forced_tokens import script
from support.models.marked import build_marked_model
from support.waiting import eventually

pytestmark = pytest.mark.engine

QUESTION = {"role": "user", "content": "How is it?"}
A, B, C = (Call(name, "look", {"at": name}) for name in "abc")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> CmlFormat:
    """The format of a model with markers; its tokens are forced on another."""
    folder = tmp_path_factory.mktemp("marked")
    build_marked_model(folder)
    config = ModelConfig(model=str(folder))
    return CmlFormat(ChatFormat(config, cached_tokenizer_from_config(config), None))


class Look:
    """A tool that answers `b` before `a`, if both run, and `a` only when `b` has been read.

    Attributes:
        timeline: of the session that calls it.
    """

    timeline: Timeline

    def __init__(self, mode: Mode) -> None:
        self._mode = mode

    async def __call__(self, call: Call | FireAndForget) -> str:
        assert isinstance(call, Call)
        if call.id == "a" and self._mode is not Mode.SYNC:
            await eventually(lambda: self._is_done("b"))
        return f"result of {call.id}"

    def _is_done(self, call_id: str) -> bool:
        call = next((call for call in self.timeline.calls if call.id == call_id), None)
        if call is None:
            return False
        if self._mode is Mode.ASYNC:
            return call.injected_at is not None
        return call.finished_at is not None


def result(call_id: str) -> Interrupt:
    return Interrupt(call_id, f"result of {call_id}")


SCRIPTS = {
    Mode.SYNC: [A, B, Text(" Then the last. "), C, Text(" Done.")],
    Mode.SYNC_PARALLEL: [A, B, Text(" Then the last. "), C, Text(" Done.")],
    Mode.ASYNC: [A, B, Text(" Then the last. "), C, Trap(), Text(" Done.")],
}


@pytest.mark.parametrize("mode", Mode)
def test_a_session_calls_and_answers_in_each_mode(
    chaotic: Engine, engine_loop: EngineLoop, made: CmlFormat, mode: Mode
) -> None:
    async def scenario() -> None:
        prompt = made.prompt([QUESTION], [], mode)
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
        look = Look(mode)
        driver = Driver(session, look)
        look.timeline = driver.timeline
        timeline = await driver.run()
        await session.close()
        assert timeline.ending is Ending.COMPLETED, timeline.message
        assert not timeline.mistakes
        text = made.chat.tokenizer.decode(session.transcript[len(prompt) :])
        pieces = read_transcript(text)
        own = [piece for piece in pieces if isinstance(piece, Call | Trap)]
        assert own == [piece for piece in SCRIPTS[mode] if isinstance(piece, Call | Trap)]
        interrupts = [piece for piece in pieces if isinstance(piece, Interrupt)]
        assert sorted(interrupts, key=lambda interrupt: interrupt.id) == [
            *map(result, "abc"),
        ]
        assert timeline.text == " Then the last.  Done."
        assert session.generated_tokens == len(token_ids)
        if mode is Mode.SYNC:
            assert pieces[:4] == [A, result("a"), B, result("b")]
        elif mode is Mode.SYNC_PARALLEL:
            assert pieces[:2] == [A, B]
            assert [a.interrupt for a in timeline.injections[0].arrivals] == [
                *(result("b"), result("a"))
            ]
        else:
            injected_at = {call.id: call.injected_at for call in timeline.calls}
            assert injected_at["b"] < injected_at["a"]

    engine_loop.run(scenario())
