"""What is written as text is read as that text, by all readers, in any pieces."""

from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caesura.cml import (
    Call,
    CallStop,
    Channel,
    EndOfStream,
    Event,
    FrameRules,
    FrameWatch,
    Interrupt,
    Marker,
    Monitor,
    MonitorSettings,
    Piece,
    ReasoningEdge,
    ReasoningTags,
    Ruling,
    State,
    Text,
    TextFrameWatch,
    TextMonitor,
    TextRules,
    TokenMonitor,
    TurnWatch,
    Verdict,
    encode_text,
    encode_tokens,
    escape,
    unescape,
)
from support.cml.streams import ByteDecoder, MarkerTokenizer, cut, joined, streams
from support.cml.transcript import read_transcript

TOKENIZER = MarkerTokenizer()
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


def text_monitor(runs: Runs) -> list[str]:
    monitor = TextMonitor(MonitorSettings())
    return [text_of(monitor, [monitor.feed(piece) for piece in pieces]) for pieces in runs]


def token_monitor(runs: Runs) -> list[str]:
    monitor = TokenMonitor(MonitorSettings(), TOKENS, ByteDecoder(TOKENIZER))
    return [
        text_of(monitor, [monitor.feed(TOKENIZER.encode_plain(piece)) for piece in pieces])
        for pieces in runs
    ]


def text_of(monitor: Monitor, reported: Iterable[list[Event]]) -> str:
    """The text up to an injection; there must be nothing else."""
    events = [event for events in [*reported, monitor.injected()] for event in events]
    assert all(isinstance(event, Text) for event in events)
    assert monitor.state is State.TEXT
    return "".join(event.text for event in events)


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


@pytest.mark.parametrize("read", [text_monitor, token_monitor, transcript])
@given(texts, all_lengths)
def test_text_is_read_as_it_was_written(
    read: Callable[[Runs], list[str]], texts: list[tuple[str, bool]], lengths: list[int]
) -> None:
    said, written = begun(texts)
    assert read([list(cut(run, lengths)) for run in written]) == said


@pytest.mark.parametrize("read", [text_monitor, token_monitor, transcript])
@given(streams, st.integers(0, 40), all_lengths)
def test_a_text_may_be_cut_apart_by_an_interrupt(
    read: Callable[[Runs], list[str]], text: str, position: int, lengths: list[int]
) -> None:
    """Halves of a quoted marker stay as they are; nothing becomes a frame."""
    written = escape(text)
    halves = [written[:position], written[position:]]
    assert read([list(cut(half, lengths)) for half in halves]) == list(map(unescape, halves))


def token_watch(runs: Runs) -> None:
    rules = FrameRules(
        *(TOKENS[marker] for marker in (Marker.CALL, Marker.TRAP, Marker.HEAD, Marker.END)),
        TOKENS[Marker.INTR],
        CallStop.EACH,
        reasoning=(TOKENS[ReasoningEdge.OPENING], TOKENS[ReasoningEdge.CLOSING]),
    )
    watch = FrameWatch(
        rules, frozenset(), lambda token: TOKENIZER.bytes_of([token]).decode(errors="replace")
    )
    for pieces in runs:
        for piece in pieces:
            keeps_all(watch, TOKENIZER.encode_plain(piece))
        watch.begin_turn(rules, frozenset())


def text_watch(runs: Runs) -> None:
    rules = TextRules(CallStop.EACH, reasoning=ReasoningTags())
    texts = [piece for pieces in runs for piece in pieces]

    def decode(token_ids: Sequence[int], final: bool) -> str:
        return "".join(texts[token_id] for token_id in token_ids)

    watch = TextFrameWatch(rules, frozenset(), lambda: decode)
    first = 0
    for pieces in runs:
        keeps_all(watch, range(first, first + len(pieces)))
        first += len(pieces)
        watch.begin_turn(rules, frozenset())


def keeps_all(watch: TurnWatch, token_ids: Iterable[int]) -> None:
    for token_id in token_ids:
        assert watch.feed(token_id, interrupt_waits=False) == KEEP
        assert watch.state is State.TEXT


@pytest.mark.parametrize("watch", [token_watch, text_watch])
@given(texts, all_lengths)
def test_text_ends_no_turn(
    watch: Callable[[Runs], None], texts: list[tuple[str, bool]], lengths: list[int]
) -> None:
    _, written = begun(texts)
    watch([list(cut(run, lengths)) for run in written])


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


@pytest.mark.parametrize("spelled", [True, False], ids=["spelled", "tokens"])
@given(streams, st.integers(0, 40))
def test_another_monitor_goes_on_behind_any_text(spelled: bool, text: str, position: int) -> None:
    def monitor() -> Monitor:
        if spelled:
            return TextMonitor(MonitorSettings())
        return TokenMonitor(MonitorSettings(), TOKENS, ByteDecoder(TOKENIZER))

    def feed(monitor: Monitor, text: str) -> list[Event]:
        return monitor.feed(text if spelled else TOKENIZER.encode_plain(text))

    written = escape(text)
    before, behind = written[:position], written[position:]
    first, second = monitor(), monitor()
    seen = feed(first, before)
    second.go_on_behind(before)
    seen += [*feed(second, behind), *second.end_of_stream()]
    assert joined(seen) == joined([Text(text), EndOfStream()])


@pytest.mark.parametrize(
    ("before", "behind", "expected"),
    [
        ("[CA", 'LL]a1[HEAD]{"name": "f"}[END]', [Call("a1", "f")]),
        ("see <thi", "nk>hm", [Text("hm", Channel.REASONING)]),
        ("[END", "x", [Text("[ENDx")]),
        ("[CALL]", "x", [Text("x")]),  # a whole one has been reported
    ],
)
def test_a_marker_is_completed_by_the_monitor_that_goes_on(
    before: str, behind: str, expected: list[Event]
) -> None:
    monitor = TextMonitor(MonitorSettings())
    monitor.go_on_behind(before)
    assert joined(monitor.feed(behind)) == expected
