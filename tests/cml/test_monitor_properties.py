"""What holds for every stream, however it is cut."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.cml import (
    Call,
    FireAndForget,
    Limits,
    MonitorSettings,
    Piece,
    Text,
    Trap,
    encode_tokens,
    escape,
)
from caesura.cml.machine import EndOfStream
from support.cml.streams import (
    TOKENIZER,
    StreamReader,
    calls,
    cut,
    joined,
    json_objects,
    monitored,
    names,
    streams,
)

SMALL = MonitorSettings(limits=Limits(body_characters=40, frames_per_turn=3))
all_settings = st.sampled_from([MonitorSettings(), SMALL, MonitorSettings(starts_reasoning=True)])
lengths = st.lists(st.integers(0, 9))
written = st.lists(
    calls
    | st.builds(FireAndForget, names, json_objects)
    | st.just(Trap())
    | st.builds(Text, streams),
    max_size=6,
    unique_by=lambda piece: piece.id if isinstance(piece, Call) else object(),
)


@given(streams, lengths, all_settings, st.booleans())
def test_a_stream_gives_the_same_events_however_it_is_cut(
    stream: str, lengths: list[int], settings: MonitorSettings, plain: bool
) -> None:
    tokens = TOKENIZER.encode_plain(stream) if plain else TOKENIZER.encode(stream)
    whole = monitored([tokens], settings)
    assert monitored(cut(tokens, lengths), settings) == whole
    assert monitored(([token] for token in tokens), settings) == whole


@given(written, lengths)
def test_what_a_model_writes_is_what_is_seen(written: list[Piece], lengths: list[int]) -> None:
    tokens = encode_tokens(written, TOKENIZER.token_ids, TOKENIZER.encode_plain)
    assert monitored(cut(tokens, lengths)) == [*joined(written), EndOfStream()]


@given(streams, lengths)
def test_quoted_text_is_never_a_frame(text: str, lengths: list[int]) -> None:
    """Not even where the tokenizer makes tokens of spelled markers."""
    for tokens in (TOKENIZER.encode(escape(text)), TOKENIZER.encode_plain(escape(text))):
        assert monitored(cut(tokens, lengths)) == joined([Text(text), EndOfStream()])


@pytest.mark.parametrize(
    "piece", ["a", "[", "[~", "~", "[CALL]", "[INTR]x", "[CALL]a1[HEAD]", "<think>", "[END]"]
)
@pytest.mark.parametrize("start", ["", "[", "[~", "[CALL]", "[INTR]", "<think>"])
def test_memory_does_not_grow_with_a_stream(start: str, piece: str) -> None:
    limits = Limits(body_characters=1000)
    monitor = StreamReader(MonitorSettings(limits=limits))
    monitor.read(start)
    chunk = piece * (200 // len(piece))
    tracemalloc.start()
    try:
        for _ in range(50):
            monitor.read(chunk)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(250):
            monitor.read(chunk)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 8_000
