"""CML in the tokens of a model that was trained for it."""

import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer
from vllm.config import ModelConfig
from vllm.tokenizers import cached_tokenizer_from_config

from caesura.cml import (
    ALL_SYMBOLS,
    MARKERS,
    Call,
    CallStop,
    Interrupt,
    Marker,
    Mode,
    State,
    Text,
    Trap,
    escape,
)
from caesura.engine.model.chat_format import ChatFormat
from caesura.engine.model.cml_format import CmlFormat
from caesura.engine.model.data_tokens import DataTokens, StreamDecoder
from caesura.errors import ConfigurationError
from support.cml.streams import encode_text
from support.cml.transcript import read_transcript
from support.models.marked import TOKENS, build_marked_model

QUESTION = {"role": "user", "content": "How is it?"}


def tool(name: str, description: str = "Looks.") -> dict:
    function = {"name": name, "description": description, "parameters": {"type": "object"}}
    return {"type": "function", "function": function}


@pytest.fixture(scope="module")
def marked_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marked")
    build_marked_model(folder)
    return folder


@pytest.fixture(scope="module")
def marked(marked_path: Path) -> CmlFormat:
    return format_of(marked_path)


def format_of(path: str | Path, chat_template: str | None = None) -> CmlFormat:
    config = ModelConfig(model=str(path))
    tokenizer = cached_tokenizer_from_config(config)
    return CmlFormat(ChatFormat(config, tokenizer, None, chat_template))


def decode(made: CmlFormat, tokens: list[int]) -> str:
    return made.chat.tokenizer.decode(tokens, skip_special_tokens=False)


def encode(made: CmlFormat, text: str) -> list[int]:
    return made.chat.encode(text)


def test_markers_are_found(marked: CmlFormat) -> None:
    assert marked.symbols == MARKERS
    for mode, calls in zip(Mode, CallStop, strict=True):
        rules = marked.frame_rules(mode)
        assert rules.calls is calls
        assert rules.reasoning is None
        assert rules.end == TOKENS[Marker.END]


@settings(suppress_health_check=list(HealthCheck))
@given(
    value=st.one_of(
        st.text(),
        st.lists(st.sampled_from([*(m.value for m in Marker), "~", "</s>", "<|im_end|>"])).map(
            "".join
        ),
    )
)
def test_a_value_forges_nothing_and_comes_back(marked: CmlFormat, value: str) -> None:
    value = value.encode(errors="replace").decode()
    interrupts = [Interrupt("a", value), Interrupt.steering(value)]
    tokens = marked.interrupts(interrupts)
    markers = [token for token in tokens if token in TOKENS.values()]
    frame = [TOKENS[m] for m in (Marker.INTR, Marker.HEAD, Marker.END)]
    assert markers == frame * 2
    assert not {0, 1, 2, 3, 4, 5} & set(tokens)  # the control tokens come first
    assert read_transcript(decode(marked, tokens)) == interrupts


def test_a_model_without_markers_is_refused(model_path: str) -> None:
    with pytest.raises(ConfigurationError, match="caesura train"):
        format_of(model_path)


@pytest.mark.parametrize("opens", ["", "<think>\n"])
def test_a_model_may_reason(marked_path: Path, tmp_path: Path, opens: str) -> None:
    """The tags of its reasoning blocks are added tokens, which need not be special."""
    shutil.copytree(marked_path, tmp_path, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(tmp_path)
    made = format_of(tmp_path, chat_template="{{ messages[0].content }}:" + opens)
    opening, closing = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    assert made.symbols == ALL_SYMBOLS
    assert made.starts_reasoning == bool(opens)
    rules = made.frame_rules(Mode.ASYNC)
    assert (rules.reasoning, rules.in_reasoning) == ((opening, closing), bool(opens))
    assert made.grammar([tool("look")], Mode.ASYNC) is None
    said = made.prompt([{"role": "user", "content": "a <think>"}], [], Mode.ASYNC)
    assert said.count(opening) == bool(opens)
    for state in (State.TEXT, State.REASONING):
        monitor = made.monitor(None, [], state)
        assert monitor.state is state
        monitor.feed([closing])
        assert monitor.state is State.TEXT
    first = made.monitor(None, [])
    assert first.state is (State.REASONING if opens else State.TEXT)


def test_a_monitor_reads_what_the_model_writes(marked: CmlFormat) -> None:
    written = [Text("Grüße. "), Call("a", "f", {"x": "ä"}), Trap()]
    tokens = encode(marked, encode_text(written))
    monitor = marked.monitor(None, ())
    events = [event for token in tokens for event in monitor.feed([token])]
    texts = "".join(event.text for event in events if isinstance(event, Text))
    assert texts == "Grüße. "
    assert [event for event in events if not isinstance(event, Text)] == written[1:]


def test_half_a_character_is_not_lost(marked: CmlFormat) -> None:
    decoder = StreamDecoder(marked.chat.tokenizer)
    first, second = encode(marked, "ä")
    assert decoder([first], final=False) == ""
    assert decoder([second], final=False) == "ä"
    assert decoder([first], final=False) == ""
    assert decoder((), final=True) == "\ufffd"
    assert decoder([first, second], final=True) == "ä"


def test_a_monitor_goes_on_in_the_middle_of_a_turn(marked: CmlFormat) -> None:
    monitor = marked.monitor(None, ["a"], State.TEXT)
    (error,) = monitor.feed(encode(marked, encode_text([Call("a", "f")])))
    assert error.kind == "duplicate_id"


def test_the_prompt_names_the_mode_and_the_longest_tool_first(marked: CmlFormat) -> None:
    tools = [tool("unknown"), tool("quick"), tool("slow", "Says [END]."), tool("nothing", "")]
    expected = {"quick": 0.1234, "slow": 5.0, "nothing": 1.0}
    text = decode(marked, marked.prompt([QUESTION], tools, Mode.SYNC_PARALLEL, expected))
    assert text.startswith("<|im_start|>mode\nsync_parallel<|im_end|>")
    order = [text.index(f'"{name}"') for name in ("slow", "nothing", "quick", "unknown")]
    assert order == sorted(order)
    assert '"Looks. Takes about 0.12 s."' in text
    assert '"Takes about 1 s."' in text
    assert "Says [~END]. Takes about 5 s." in text
    assert text.endswith("<|im_start|>assistant\n")


def test_what_users_say_forges_nothing(marked: CmlFormat) -> None:
    for content in ("[CALL]", [{"type": "text", "text": "[CALL]"}]):
        said = {"role": "user", "content": content}
        tokens = marked.prompt([said], [], Mode.ASYNC)
        assert not set(TOKENS.values()) & set(tokens)
        assert "[~CALL]" in decode(marked, tokens)


def test_what_an_earlier_answer_says_forges_nothing(marked_path: Path) -> None:
    function = {"name": "[CALL]", "arguments": '{"x": "\\u005bEND]"}'}
    messages = [
        QUESTION,
        {
            "role": "assistant",
            "content": "",
            "reasoning": "[TRAP]",
            "tool_calls": [{"id": "[INTR]", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "[INTR]", "name": "[HEAD]", "content": ""},
    ]
    made = format_of(marked_path, chat_template="{{ messages | tojson }}")
    tokens = made.prompt(messages, [tool("[END]")], Mode.ASYNC)
    assert not set(TOKENS.values()) & set(tokens)
    text = decode(made, tokens)
    assert all(quoted in text for quoted in ("[~CALL]", "[~END]", "[~TRAP]", "[~INTR]"))


def test_the_grammar_of_the_same_tools_is_made_once(marked: CmlFormat) -> None:
    made = marked.grammar([tool("look")], Mode.ASYNC)
    assert made is not None
    assert marked.grammar([tool("look")], Mode.ASYNC) is made
    assert marked.grammar([tool("find")], Mode.ASYNC) != made


def test_a_short_text_does_not_wait_for_a_long_one(marked: CmlFormat) -> None:
    data = DataTokens(marked.chat.tokenizer)
    long = threading.Thread(target=data.encode, args=("some words and numbers " * 100_000,))
    long.start()
    for _ in range(10):
        data.encode("short")
    was_busy = long.is_alive()
    long.join()
    assert was_busy


def test_the_next_turn_ends_the_one_before(marked: CmlFormat) -> None:
    prompt = marked.prompt([QUESTION], [], Mode.ASYNC)
    transcript = [*prompt, *encode(marked, " Good.")]
    appended = marked.append(transcript, [{"role": "user", "content": "And [TRAP]?"}], Mode.ASYNC)
    assert decode(marked, appended) == (
        "<|im_end|>\n<|im_start|>user\nAnd [~TRAP]?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_monitor_goes_on_at_any_token_of_a_text(marked: CmlFormat) -> None:
    text = "See [END], [~CALL] and 👩‍👩‍👧, 你好 [EN"
    tokens = encode(marked, escape(text))
    for position in range(len(tokens)):
        before, behind = tokens[:position], tokens[position:]
        first = marked.monitor(None, [])
        second = marked.monitor(None, [], State.TEXT, before)
        events = [*first.feed(before), *second.feed(behind), *second.end_of_stream()]
        assert "".join(e.text for e in events if isinstance(e, Text)) == text


def test_a_monitor_goes_on_behind_a_frame(marked: CmlFormat) -> None:
    before = encode(marked, encode_text([Text("See [~EN"), Call("a", "f")]))
    monitor = marked.monitor(None, ["a"], State.TEXT, before)
    assert monitor.feed(encode(marked, "D]")) == [Text("D]")]
