"""The monitor of models whose markers are tokens; what both have is in `test_monitor`."""

import json

import pytest

from caesura.cml import (
    Call,
    Channel,
    EndOfStream,
    Marker,
    MonitorSettings,
    ReasoningEdge,
    Text,
    TokenMonitor,
    Trap,
)
from caesura.errors import ConfigurationError
from support.cml.streams import ByteDecoder, MarkerTokenizer, joined

TOKENIZER = MarkerTokenizer()


def token_monitor() -> TokenMonitor:
    return TokenMonitor(MonitorSettings(), TOKENIZER.token_ids, ByteDecoder(TOKENIZER))


def test_text_that_spells_a_marker_is_text() -> None:
    monitor = token_monitor()
    plain = TOKENIZER.encode_plain("[TRAP][END] and [~END]")
    assert monitor.feed(plain) == [Text("[TRAP][END] and [END]")]
    assert monitor.feed(TOKENIZER.encode("[TRAP][END]")) == [Trap()]


def test_a_body_may_contain_text_that_spells_a_marker() -> None:
    ids = TOKENIZER.token_ids
    body = TOKENIZER.encode_plain('{"name": "f", "arguments": {"x": "[END]"}}')
    a1 = TOKENIZER.encode_plain("a1")
    tokens = [ids[Marker.CALL], *a1, ids[Marker.HEAD], *body, ids[Marker.END]]
    monitor = token_monitor()
    assert [event for token in tokens for event in monitor.feed([token])] == [
        Call("a1", "f", {"x": "[END]"})
    ]


def test_characters_may_be_cut_anywhere() -> None:
    monitor = token_monitor()
    tokens = TOKENIZER.encode_plain("é你")
    assert [monitor.feed([token]) for token in tokens] == [[], [Text("é")], [], [], [Text("你")]]


def test_a_character_without_end_is_not_lost() -> None:
    monitor = token_monitor()
    beginning = TOKENIZER.encode_plain("你")[:2]
    trap = TOKENIZER.encode("[TRAP][END]")
    assert monitor.feed([*beginning, *trap]) == [Text("\ufffd"), Trap()]
    monitor.feed(beginning)
    assert monitor.end_of_stream() == [Text("\ufffd"), EndOfStream()]


def test_markers_inside_a_reasoning_block_are_text() -> None:
    thought = 'I could [CALL]a1[HEAD]{"name": "f"}[END]'
    stream = f"<think>{thought}</think>ok"
    assert joined(token_monitor().feed(TOKENIZER.encode(stream))) == [
        Text(thought, Channel.REASONING),
        Text("ok"),
    ]


def test_a_model_without_tokens_for_the_markers_is_refused() -> None:
    ids = TOKENIZER.token_ids
    decode = ByteDecoder(TOKENIZER)
    without = {symbol: id for symbol, id in ids.items() if symbol != ReasoningEdge.CLOSING}
    with pytest.raises(ConfigurationError, match=r"no tokens for </think>: use a TextMonitor"):
        TokenMonitor(MonitorSettings(), without, decode)
    with pytest.raises(ConfigurationError, match="same token"):
        TokenMonitor(MonitorSettings(), {**ids, Marker.CALL: ids[Marker.END]}, decode)


def test_reasoning_tags_inside_a_body_are_text() -> None:
    arguments = {"x": "<think></think>"}
    stream = f"[CALL]a1[HEAD]{json.dumps({'name': 'f', 'arguments': arguments})}[END]"
    assert token_monitor().feed(TOKENIZER.encode(stream)) == [Call("a1", "f", arguments)]
