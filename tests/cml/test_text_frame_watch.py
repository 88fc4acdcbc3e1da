import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.cml import (
    Call,
    CallStop,
    Ending,
    Marker,
    MonitorSettings,
    ReasoningTags,
    Ruling,
    TextFrameWatch,
    TextMonitor,
    TextRules,
    Trap,
    Verdict,
    Vocabulary,
)
from caesura.cml.frame_watch import WORD_PATIENCE_TOKENS
from caesura.errors import ConfigurationError

EOS = -1
CALLING = '[CALL]a1[HEAD]{"name": "f"}[END]'
KEEP = Ruling(Verdict.KEEP)
FRAME = Ruling(Verdict.STOP_AFTER, Ending.FRAME)
BUNDLE = Ruling(Verdict.STOP_BEFORE, Ending.BUNDLE)
BUNDLE_BEHIND = Ruling(Verdict.STOP_AFTER, Ending.BUNDLE)
SEQUENCE = Ruling(Verdict.STOP_BEFORE, Ending.SEQUENCE)
BEHIND = Ruling(Verdict.STOP_AFTER, Ending.INTERRUPTED)
BEFORE = Ruling(Verdict.STOP_BEFORE, Ending.INTERRUPTED)

PIECES = [
    *(marker.value for marker in Marker),
    *("<think>", "</think>", CALLING, "[CALL]{}[END]", "[TRAP][END]", "[~END]", "<~think>"),
    *(" ", "\n", "see", " me", ",", "[", "]", "a1", "<", "[1]", "é"),
]


@st.composite
def tokenized(draw: st.DrawFn) -> list[str]:
    """Text that is full of markers, cut anywhere; EOS as an empty one."""
    text = "".join(draw(st.lists(st.sampled_from(PIECES), max_size=25)))
    cuts = sorted(draw(st.sets(st.integers(1, max(len(text) - 1, 1)), max_size=len(text))))
    tokens = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return [token for token in tokens if token]


class Watched:
    """A watch on a list of texts: a token is an index."""

    def __init__(
        self,
        texts: list[str],
        calls: CallStop = CallStop.NEVER,
        *,
        at_words: bool = True,
        before: str = "",
    ) -> None:
        self._texts = texts
        self._rules = TextRules(calls, at_words, ReasoningTags())
        self.watch = TextFrameWatch(self._rules, frozenset({EOS}), lambda: self._decode, before)
        self.monitor = TextMonitor(MonitorSettings(vocabulary=Vocabulary(ReasoningTags())))

    def _decode(self, token_ids: object, final: bool) -> str:
        return "".join(self._texts[token_id] for token_id in token_ids)

    def feed(self, token_id: int, *, interrupt_waits: bool = False) -> Ruling:
        return self.watch.feed(token_id, interrupt_waits=interrupt_waits)

    def appended(self) -> list[object]:
        self.watch.begin_turn(self._rules, frozenset({EOS}))
        return self.monitor.injected()


def last(texts: list[str], waits_from: int | None = None, **options: object) -> tuple[int, Ruling]:
    """The index of the token that ends the turn, or of the last one, and its ruling."""
    watched = Watched(texts, **options)
    ruling = KEEP
    for token_id, text in enumerate(texts):
        waits = waits_from is not None and token_id >= waits_from
        ruling = watched.feed(EOS if text == "EOS" else token_id, interrupt_waits=waits)
        if ruling != KEEP:
            break
    return token_id, ruling


@given(tokenized())
def test_it_is_where_the_monitor_is(texts: list[str]) -> None:
    watched = Watched(texts)
    for token_id, text in enumerate(texts):
        watched.feed(token_id)
        watched.monitor.feed(text)
        assert watched.watch.state is watched.monitor.state


@given(tokenized(), st.sampled_from(CallStop), st.booleans(), st.data())
def test_appended_tokens_break_no_frame_off_and_no_marker(
    texts: list[str], calls: CallStop, at_words: bool, data: st.DataObject
) -> None:
    watched = Watched(texts, calls, at_words=at_words)
    for token_id, text in enumerate(texts):
        before = watched.monitor.in_critical_section
        waits = data.draw(st.booleans())
        ruling = watched.feed(token_id, interrupt_waits=waits)
        if ruling.verdict is not Verdict.STOP_BEFORE:
            watched.monitor.feed(text)
        if ruling.ending is Ending.INTERRUPTED:
            assert waits
            assert not watched.monitor.in_critical_section
        if ruling.verdict is Verdict.STOP_BEFORE:
            assert not before or ruling.ending is Ending.BUNDLE
        if ruling != KEEP:
            watched.appended()
            assert watched.watch.state is watched.monitor.state


@given(tokenized())
def test_what_pauses_is_what_the_monitor_reports(texts: list[str]) -> None:
    watched = Watched(texts, CallStop.EACH)
    for token_id, text in enumerate(texts):
        ruling = watched.feed(token_id)
        events = watched.monitor.feed(text)
        if any(isinstance(event, Call | Trap) for event in events):
            assert ruling == FRAME
        if ruling == FRAME:
            assert events, "a call, a trap or a mistake in one: somebody is to answer"
            watched.appended()


@given(tokenized(), st.sampled_from(CallStop))
def test_whatever_the_tokens_the_same_calls_end_the_turn(texts: list[str], calls: CallStop) -> None:
    """One character per token is exact; other tokens end it at most where theirs ends."""
    text = "".join(texts)
    index, ruling = last(list(text), calls=calls) if text else (0, KEEP)
    coarse_index, coarse = last(texts, calls=calls) if texts else (0, KEEP)
    assert (ruling == KEEP) == (coarse == KEEP)
    if ruling != KEEP:
        # A token may hold what parts a bundle and a whole trap: then the trap is told.
        assert ruling.ending is coarse.ending or coarse.ending is Ending.FRAME
        start = len("".join(texts[:coarse_index]))
        assert start <= index < start + len(texts[coarse_index])


@pytest.mark.parametrize(
    ("texts", "options", "expected"),
    [
        (["see [", "TR", "AP", "][", "END", "]", " me"], {}, (5, FRAME)),
        (["[TRAP", "][", "END", "] The", "n"], {}, (3, FRAME)),  # " The" stays
        ([CALLING[:-1], "][", "CALL"], {"calls": CallStop.EACH}, (1, FRAME)),  # a lone "[" stays
        ([CALLING[:-1], "]\n", "see"], {"calls": CallStop.EACH}, (1, FRAME)),
        (["[CALL]{}[END", "]", " me"], {"calls": CallStop.EACH}, (2, KEEP)),  # no result will come
        ([CALLING[:-1], "][", CALLING[1:], "\n", " me"], {"calls": CallStop.BUNDLE}, (4, BUNDLE)),
        ([CALLING[:-1], "] me", "see"], {"calls": CallStop.BUNDLE}, (1, BUNDLE_BEHIND)),
        ([CALLING[:-1], "][", "IN", "TR"], {"calls": CallStop.BUNDLE}, (2, BUNDLE)),
        ([CALLING[:-1], "][", "1]"], {"calls": CallStop.BUNDLE}, (2, BUNDLE)),
        ([CALLING, "[", "TR", "AP", "]", "[END]"], {"calls": CallStop.BUNDLE}, (5, FRAME)),
        ([CALLING, "", "see"], {"calls": CallStop.BUNDLE}, (1, BUNDLE)),  # half a character
        ([CALLING, " ", "EOS"], {"calls": CallStop.BUNDLE}, (2, SEQUENCE)),
        (["[CALL]{}[END]", "[", "1"], {"calls": CallStop.BUNDLE}, (2, KEEP)),
        (["[CA", "EOS"], {}, (1, SEQUENCE)),
        (["<think>", CALLING, "</think>", "see"], {"calls": CallStop.EACH}, (3, KEEP)),
        (["P]", "[END]", "x"], {"before": "see [TRA"}, (1, FRAME)),
        (["P]", "[END]", "x"], {"before": "[~TRA"}, (2, KEEP)),
        (["[TRAP]", "[END]"], {"before": "see <thi"}, (1, FRAME)),
        (["nk>[TRAP]", "[END]"], {"before": "see <thi"}, (1, KEEP)),
    ],
)  # fmt: skip
def test_frames_end_turns(
    texts: list[str], options: dict[str, object], expected: tuple[int, Ruling]
) -> None:
    assert last(texts, **options) == expected


@pytest.mark.parametrize(
    ("texts", "waits_from", "options", "expected"),
    [
        (["see"], 0, {}, (0, BEFORE)),  # nothing was generated yet
        (["see", "see", ",", " me"], 1, {}, (3, BEFORE)),
        (["see\n", "see"], 1, {}, (1, BEFORE)),
        (["see", " ", "see", " me"], 2, {}, (3, BEFORE)),
        (["see", "see"], 1, {"at_words": False}, (1, BEFORE)),
        (["see", "see", "["], 1, {}, (2, BEFORE)),  # it may begin a frame
        (["see", "see", "[1", " me"], 1, {}, (3, BEFORE)),
        (["see", "see", "[END]", "me"], 1, {}, (3, BEFORE)),
        (["see", " [", "CALL", "]"], 2, {}, (3, KEEP)),
        (["see", " [", " me", " me"], 2, {}, (3, BEFORE)),  # it was no marker after all
        (["see", " [", "x"], 2, {"at_words": False}, (2, KEEP)),
        (["see", "EOS"], 1, {}, (1, SEQUENCE)),
        ([CALLING[:-1], "]"], 1, {}, (1, BEHIND)),
        ([CALLING[:-1], "]\n"], 1, {}, (1, BEHIND)),
        ([CALLING[:-1], "] The", "n", " me"], 1, {}, (3, BEFORE)),  # not in the middle of a word
        ([CALLING[:-1], "] The"], 1, {"at_words": False}, (1, BEHIND)),
        ([CALLING[:-1], "][", "CALL", "]"], 1, {}, (3, KEEP)),
        ([CALLING[:-1], "] The"], 1, {"calls": CallStop.EACH}, (1, FRAME)),
        ([CALLING, "[CALL]"], 1, {"calls": CallStop.BUNDLE}, (1, KEEP)),
    ],
)
def test_appended_tokens_wait_for_their_place(
    texts: list[str], waits_from: int, options: dict[str, object], expected: tuple[int, Ruling]
) -> None:
    assert last(texts, waits_from, **options) == expected


def test_appended_tokens_wait_so_long_for_a_word() -> None:
    word_without_end = ["see"] * (WORD_PATIENCE_TOKENS + 9)
    assert last(word_without_end, 5) == (5 + WORD_PATIENCE_TOKENS, BEFORE)


def test_tags_can_be_told_from_markers() -> None:
    with pytest.raises(ConfigurationError, match="begins another symbol"):
        TextRules(CallStop.NEVER, reasoning=ReasoningTags("[C", "[/C"))
