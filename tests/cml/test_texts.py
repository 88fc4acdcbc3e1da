"""What is written as text is read as that text, by all readers, in any pieces."""

from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caesura.cml import (
    CallStop,
    EndOfStream,
    FrameRules,
    FrameWatch,
    Interrupt,
    Marker,
    Monitor,
    MonitorSettings,
    Piece,
    ReasoningEdge,
    Ruling,
    State,
    Text,
    Verdict,
    encode_tokens,
    escape,
    unescape,
)
from support.cml.streams import TOKENIZER, ByteDecoder, cut, encode_text, joined, streams
from support.cml.transcript import read_transcript

TOKENS = TOKENIZER.token_ids
INJECTED = Interrupt.steering("[~END]")
KEEP = Ruling(Verdict.KEEP)

Runs = Sequence[Sequence[str]]
"""Pieces of what is written between two injections."""

texts = st.lists(st.tuples(streams, st.booleans()), max_size=8)
all_lengths = st.lists(st.integers(0, 5), max_size=40)


def begun(texts: Iterable[tuple[str, bool]]) -> tuple[list[str], list[str]]:
    """Texts that are begun one behind the other, some followed by interrupts.

    Returns:
        What they say between injections, and how it is written.
    """
    said, written = [""], [""]
    for text, is_interrupted in texts:
        said[-1] += text
        written[-1] += escape(text, before=written[-1])
        if is_interrupted:
            said.append("")
            written.append("")
    return said, written


def new_monitor() -> Monitor:
    return Monitor(MonitorSettings(), TOKENS, ByteDecoder(TOKENIZER))


def monitor(runs: Runs) -> list[str]:
    reader, said = new_monitor(), []
    for pieces in runs:
        reported = [reader.feed(TOKENIZER.encode_plain(piece)) for piece in pieces]
        events = [event for events in [*reported, reader.injected()] for event in events]
        assert all(isinstance(event, Text) for event in events)
        assert reader.state is State.TEXT
        said.append("".join(event.text for event in events))
    return said


def transcript(runs: Runs) -> list[str]:
    injected = encode_text([INJECTED])
    pieces = read_transcript(injected.join("".join(pieces) for pieces in runs))
    return ["".join(piece.text for piece in between) for between in parted(pieces)]


def parted(pieces: Iterable[Piece]) -> list[list[Text]]:
    """The texts between interrupts."""
    between: list[list[Text]] = [[]]
    for piece in pieces:
        if piece == INJECTED:
            between.append([])
        else:
            between[-1].append(piece)
    return between


@pytest.mark.parametrize("read", [monitor, transcript])
@given(texts, all_lengths)
def test_text_is_read_as_it_was_written(
    read: Callable[[Runs], list[str]], texts: list[tuple[str, bool]], lengths: list[int]
) -> None:
    said, written = begun(texts)
    assert read([list(cut(run, lengths)) for run in written]) == said


@pytest.mark.parametrize("read", [monitor, transcript])
@given(streams, st.integers(0, 40), all_lengths)
def test_a_text_may_be_cut_apart_by_an_interrupt(
    read: Callable[[Runs], list[str]], text: str, position: int, lengths: list[int]
) -> None:
    """Halves of a quoted marker stay as they are; nothing becomes a frame."""
    written = escape(text)
    halves = [written[:position], written[position:]]
    assert read([list(cut(half, lengths)) for half in halves]) == list(map(unescape, halves))


@given(texts, all_lengths)
def test_text_ends_no_turn(texts: list[tuple[str, bool]], lengths: list[int]) -> None:
    rules = FrameRules(
        *(TOKENS[marker] for marker in (Marker.CALL, Marker.TRAP, Marker.HEAD, Marker.END)),
        TOKENS[Marker.INTR],
        CallStop.EACH,
        reasoning=(TOKENS[ReasoningEdge.OPENING], TOKENS[ReasoningEdge.CLOSING]),
    )
    watch = FrameWatch(
        rules, frozenset(), lambda token: TOKENIZER.bytes_of([token]).decode(errors="replace")
    )
    _, written = begun(texts)
    for run in written:
        for piece in cut(run, lengths):
            for token in TOKENIZER.encode_plain(piece):
                assert watch.feed(token, interrupt_waits=False) == KEEP
                assert watch.state is State.TEXT
        watch.begin_turn(rules, frozenset())


@given(st.lists(streams, max_size=5))
@example(["[EN", "D]"])
@example(["[", "", "~END]"])
def test_texts_that_are_encoded_together_are_one_text(parts: list[str]) -> None:
    pieces = [Text(part) for part in parts]
    encoded = encode_text(pieces)
    assert encoded == encode_text([Text("".join(parts))])
    assert read_transcript(encoded) == joined(pieces)
    tokens = encode_tokens(pieces, TOKENS, TOKENIZER.encode_plain)
    assert TOKENIZER.bytes_of(tokens).decode() == encoded


@given(streams, st.integers(0, 40))
def test_another_monitor_goes_on_behind_any_text(text: str, position: int) -> None:
    written = escape(text)
    before, behind = written[:position], written[position:]
    first, second = new_monitor(), new_monitor()
    seen = first.feed(TOKENIZER.encode_plain(before))
    second.go_on_behind(before)
    seen += [*second.feed(TOKENIZER.encode_plain(behind)), *second.end_of_stream()]
    assert joined(seen) == joined([Text(text), EndOfStream()])
