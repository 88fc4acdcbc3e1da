"""What is written whose calls are answered with futures: turn by turn, without an engine."""

import pytest

from caesura.cml import Call
from caesura.cml.futures import pending_text, ready_text
from caesura.lab.bench.function_calling.futures_writer import FuturesWriter
from caesura.lab.bench.function_calling.native_format import NativeFormat
from caesura.lab.bench.function_calling.plans import TimedCall
from caesura.lab.models.bench_tokenizer import build_tokenizer, save_tokenizer
from caesura.session import Delta, StopReason

# a and b are for themselves; c needs a; the results of a, b and c come after 3, 1 and 2 seconds.
CALLS = [
    TimedCall(Call("a", "first", {"x": "Grüße"}), (), 3.0, "1"),
    TimedCall(Call("c", "third", {}), (0,), 2.0, "3"),
    TimedCall(Call("b", "second", {"y": [1, 2]}), (), 1.0, "2"),
]


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> NativeFormat:
    folder = tmp_path_factory.mktemp("bench-model")
    save_tokenizer(folder, 8192)
    return NativeFormat(folder)


class Play:
    """Turns of a writer, one token per second."""

    def __init__(self, form: NativeFormat) -> None:
        self.writer = FuturesWriter(form, CALLS)
        self._form = form
        self._tokenizer = build_tokenizer()
        self.now = 0.0

    def turn(self, said: str = "") -> str:
        script = self.writer.turn(self._tokenizer.encode(said, add_special_tokens=False).ids)
        for place, token in enumerate(script):
            self.now += 1
            stop = StopReason.STOP if place == len(script) - 1 else None
            self.writer.written(Delta((token,), stop), self.now)
        return self._form.text(script)


def test_calls_are_written_as_soon_as_they_can_be_and_then_waited_for(form: NativeFormat) -> None:
    play = Play(form)
    assert play.turn("a question") == (
        '<tool_call>\n{"name": "first", "arguments": {"x": "Grüße"}}\n</tool_call><|im_end|>'
    )
    assert '"second", "arguments": {"y": [1, 2]}' in play.turn(pending_text("f1"))
    # Nothing is left to do without the first result, though the second comes earlier.
    assert '"await_future", "arguments": {"future": "f1"}' in play.turn(pending_text("f2"))
    assert '"third"' in play.turn(ready_text("f2", "2") + ready_text("f1", "1"))
    assert '"await_future", "arguments": {"future": "f3"}' in play.turn(pending_text("f3"))
    assert play.turn(ready_text("f3", "3")) == " Done.<|im_end|>"
    assert play.writer.awaited == 2
    assert [span.id for span in play.writer.spans] == ["a", "b", "c"]


def test_the_last_result_is_waited_for_if_no_call_needs_another(form: NativeFormat) -> None:
    play = Play(form)
    play.turn()
    play.turn(pending_text("f1"))
    play.turn(ready_text("f1", "1"))
    assert '"future": "f3"' in play.turn(pending_text("f3"))  # due after that of f2


def test_what_a_call_took_to_write_is_known(form: NativeFormat) -> None:
    play = Play(form)
    text = play.turn()
    [span] = play.writer.spans
    assert span.tokens == span.generation_seconds + 1 == play.now
    assert play.writer.first_token_at == 1
    assert text.endswith("<|im_end|>")
