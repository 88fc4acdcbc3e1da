"""What holds for every stream, however it is cut."""

import tracemalloc

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from caesura.cml import (
    Call,
    FireAndForget,
    Limits,
    MonitorSettings,
    Piece,
    Text,
    TextMonitor,
    TokenMonitor,
    Trap,
    encode_text,
    encode_tokens,
    escape,
)
from caesura.cml.machine import EndOfStream
from cml_support import (
    SPELLINGS,
    ByteDecoder,
    MarkerTokenizer,
    calls,
    cut,
    joined,
    json_objects,
    monitored,
    names,
    streams,
)

TOKENIZER = MarkerTokenizer()
SMALL = MonitorSettings(limits=Limits(body_characters=40, frames_per_turn=3))
all_settings = st.sampled_from([MonitorSettings(), SMALL, MonitorSettings(starts_reasoning=True)])
BEGINNINGS = [*"[]<>x", "[C", "[CAL", "CALL", "L", "[EN", "[TRA", "P", "<thi", "nk", "</think"]
lengths = st.lists(st.integers(0, 9))
written = st.lists(
    calls
    | st.builds(FireAndForget, names, json_objects)
    | st.just(Trap())
    | st.builds(Text, streams),
    max_size=6,
    unique_by=lambda piece: piece.id if isinstance(piece, Call) else object(),
)


@given(streams, lengths, all_settings)
def test_a_stream_gives_the_same_events_however_it_is_cut(
    stream: str, lengths: list[int], settings: MonitorSettings
) -> None:
    whole = monitored([stream], settings)
    assert monitored(cut(stream, lengths), settings) == whole
    assert monitored(stream, settings) == whole


@given(streams, lengths, st.booleans())
def test_tokens_give_the_same_events_however_they_are_cut(
    stream: str, lengths: list[int], plain: bool
) -> None:
    tokens = TOKENIZER.encode_plain(stream) if plain else TOKENIZER.encode(stream)

    def events(*chunks: list[int]) -> list:
        monitor = TokenMonitor(SMALL, TOKENIZER.token_ids, ByteDecoder(TOKENIZER))
        found = [event for chunk in chunks for event in monitor.feed(chunk)]
        return joined([*found, *monitor.end_of_stream()])

    chunks, start = [], 0
    for length in lengths:
        chunks.append(tokens[start : start + length])
        start += length
    assert events(*chunks, tokens[start:]) == events(tokens)
    assert events(*([token] for token in tokens)) == events(tokens)


@given(streams, all_settings)
def test_both_monitors_see_the_same_where_all_markers_are_tokens(
    stream: str, settings: MonitorSettings
) -> None:
    monitor = TokenMonitor(settings, TOKENIZER.token_ids, ByteDecoder(TOKENIZER))
    events = [*monitor.feed(TOKENIZER.encode(stream)), *monitor.end_of_stream()]
    assert joined(events) == monitored([stream], settings)


@given(written, lengths)
def test_what_a_model_writes_is_what_is_seen(written: list[Piece], lengths: list[int]) -> None:
    expected = [*joined(written), EndOfStream()]
    assert monitored(cut(encode_text(written), lengths)) == expected
    monitor = TokenMonitor(MonitorSettings(), TOKENIZER.token_ids, ByteDecoder(TOKENIZER))
    tokens = encode_tokens(written, TOKENIZER.token_ids, TOKENIZER.encode_plain)
    assert joined([*monitor.feed(tokens), *monitor.end_of_stream()]) == expected


@given(streams, lengths)
def test_quoted_text_is_never_a_frame(text: str, lengths: list[int]) -> None:
    assert monitored(cut(escape(text), lengths)) == joined([Text(text), EndOfStream()])


@given(st.lists(st.sampled_from(BEGINNINGS)).map("".join))
def test_exactly_the_beginning_of_a_marker_is_held_back(text: str) -> None:
    assume(not any(spelling in text for spelling in SPELLINGS.values()))
    monitor = TextMonitor(MonitorSettings())
    passed_on = ""
    listened_for = [spelling for spelling in SPELLINGS.values() if spelling != "</think>"]
    for end, character in enumerate(text, start=1):
        passed_on += "".join(event.text for event in monitor.feed(character))
        tails = (text[start:end] for start in range(end + 1))
        held = next(tail for tail in tails if any(s.startswith(tail) for s in listened_for))
        assert passed_on + held == text[:end]


@pytest.mark.parametrize(
    "piece", ["a", "[", "[~", "~", "[CALL]", "[INTR]x", "[CALL]a1[HEAD]", "<think>", "[END]"]
)
@pytest.mark.parametrize("start", ["", "[", "[~", "[CALL]", "[INTR]", "<think>"])
def test_memory_does_not_grow_with_a_stream(start: str, piece: str) -> None:
    limits = Limits(body_characters=1000)
    monitor = TextMonitor(MonitorSettings(limits=limits))
    monitor.feed(start)
    chunk = piece * (200 // len(piece))
    tracemalloc.start()
    try:
        for _ in range(50):
            monitor.feed(chunk)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(250):
            monitor.feed(chunk)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 8_000
