from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.cml import (
    Call,
    CallStop,
    Ending,
    FrameRules,
    FrameWatch,
    Marker,
    Monitor,
    MonitorSettings,
    ReasoningEdge,
    Ruling,
    Trap,
    Verdict,
)
from caesura.cml.frame_watch import WORD_PATIENCE_TOKENS
from caesura.errors import ConfigurationError

TEXTS = {
    "see": "see",
    "_me": " me",
    "_": " ",
    "nl": "\n",
    ",": ",",
    "id": "a1",
    "json": '{"name": "f"}',
}
SYMBOLS = {
    Marker.CALL: 100,
    Marker.TRAP: 101,
    Marker.HEAD: 102,
    Marker.END: 103,
    Marker.INTR: 104,
    ReasoningEdge.OPENING: 105,
    ReasoningEdge.CLOSING: 106,
}
EOS = 99
NAMES = {
    **{name: index for index, name in enumerate(TEXTS)},
    **{symbol.name: token for symbol, token in SYMBOLS.items()},
    "EOS": EOS,
}
SPELLED = {
    **dict(enumerate(TEXTS.values())),
    **{token: symbol.value for symbol, token in SYMBOLS.items()},
}
CALLING = "CALL id HEAD json END"
KEEP = Ruling(Verdict.KEEP)
FRAME = Ruling(Verdict.STOP_AFTER, Ending.FRAME)
BUNDLE = Ruling(Verdict.STOP_BEFORE, Ending.BUNDLE)
SEQUENCE = Ruling(Verdict.STOP_BEFORE, Ending.SEQUENCE)
BEHIND = Ruling(Verdict.STOP_AFTER, Ending.INTERRUPTED)
BEFORE = Ruling(Verdict.STOP_BEFORE, Ending.INTERRUPTED)
tokens = st.lists(st.sampled_from([*NAMES.values()]), max_size=40)


def rules(calls: CallStop = CallStop.NEVER, *, at_words: bool = True) -> FrameRules:
    reasoning = (SYMBOLS[ReasoningEdge.OPENING], SYMBOLS[ReasoningEdge.CLOSING])
    return FrameRules(
        *(SYMBOLS[marker] for marker in (Marker.CALL, Marker.TRAP, Marker.HEAD, Marker.END)),
        SYMBOLS[Marker.INTR],
        calls,
        at_words,
        reasoning,
    )


def watch(calls: CallStop = CallStop.NEVER, *, at_words: bool = True) -> FrameWatch:
    return FrameWatch(rules(calls, at_words=at_words), frozenset({EOS}), SPELLED.__getitem__)


def monitor() -> Monitor:
    def decode(token_ids: object, final: bool) -> str:
        return "".join(SPELLED[token_id] for token_id in token_ids)

    return Monitor(MonitorSettings(), SYMBOLS, decode)


def rulings(names: str, waits_from: int | None = None, **options: object) -> list[Ruling]:
    """What becomes of each token, up to the first that ends the turn."""
    watching = watch(**options)
    found = []
    for index, name in enumerate(names.split()):
        waits = waits_from is not None and index >= waits_from
        found.append(watching.feed(NAMES[name], interrupt_waits=waits))
        if found[-1] != KEEP:
            break
    return found


def last(names: str, waits_from: int | None = None, **options: object) -> tuple[int, Ruling]:
    """The index of the token that ends the turn, or the last one, and its ruling."""
    found = rulings(names, waits_from, **options)
    return len(found) - 1, found[-1]


@given(tokens)
def test_it_is_where_the_monitor_is(token_ids: list[int]) -> None:
    watching, monitoring = watch(), monitor()
    for token_id in token_ids:
        ruling = watching.feed(token_id, interrupt_waits=False)
        if token_id == EOS:
            assert ruling == SEQUENCE
            monitoring.end_of_stream()
            watching.begin_turn(rules(), frozenset({EOS}))
            continue
        monitoring.feed([token_id])
        assert watching.state is monitoring.state
        assert watching.in_frame == monitoring.in_critical_section


@given(tokens, st.sampled_from(CallStop), st.booleans())
def test_appended_tokens_never_break_a_frame_off(
    token_ids: list[int], calls: CallStop, at_words: bool
) -> None:
    watching, monitoring = watch(calls, at_words=at_words), monitor()
    for token_id in token_ids:
        was_in_frame = monitoring.in_critical_section
        ruling = watching.feed(token_id, interrupt_waits=True)
        if token_id == EOS:
            assert ruling == SEQUENCE
            monitoring.end_of_stream()
        elif ruling.verdict is Verdict.STOP_BEFORE:
            assert not was_in_frame
        else:
            monitoring.feed([token_id])
        if ruling.verdict is not Verdict.KEEP:
            assert token_id == EOS or not monitoring.in_critical_section
            monitoring.injected()
            watching.begin_turn(rules(calls, at_words=at_words), frozenset({EOS}))
            assert watching.state is monitoring.state


@given(tokens)
def test_what_pauses_is_what_the_monitor_reports(token_ids: list[int]) -> None:
    watching, monitoring = watch(CallStop.EACH), monitor()
    for token_id in token_ids:
        if token_id == EOS:
            continue
        ruling = watching.feed(token_id, interrupt_waits=False)
        events = monitoring.feed([token_id])
        if any(isinstance(event, Call | Trap) for event in events):
            assert ruling == FRAME
        if ruling == FRAME:
            assert events, "a call, a trap or a mistake in one: somebody is to answer"


@pytest.mark.parametrize(
    ("written", "options", "expected"),
    [
        ("see TRAP END _me", {}, (2, FRAME)),
        (f"see {CALLING} _me", {}, (6, KEEP)),
        (f"see {CALLING} _me", {"calls": CallStop.EACH}, (5, FRAME)),
        ("CALL json END _me", {"calls": CallStop.EACH}, (3, KEEP)),  # no result will come
        (f"{CALLING} {CALLING} _me", {"calls": CallStop.BUNDLE}, (10, BUNDLE)),
        (f"{CALLING} nl _ {CALLING} _ see", {"calls": CallStop.BUNDLE}, (13, BUNDLE)),
        (f"{CALLING} TRAP END", {"calls": CallStop.BUNDLE}, (6, FRAME)),
        (f"{CALLING} EOS", {"calls": CallStop.BUNDLE}, (5, SEQUENCE)),
        ("CALL json END see", {"calls": CallStop.BUNDLE}, (3, KEEP)),
        (f"CALL json END {CALLING} see", {"calls": CallStop.BUNDLE}, (8, BUNDLE)),
        ("see EOS", {}, (1, SEQUENCE)),
        ("CALL EOS", {}, (1, SEQUENCE)),
        ("OPENING CALL id HEAD json END CLOSING see", {"calls": CallStop.EACH}, (7, KEEP)),
    ],
)
def test_frames_end_turns(
    written: str, options: dict[str, object], expected: tuple[int, Ruling]
) -> None:
    assert last(written, **options) == expected


@pytest.mark.parametrize(
    ("written", "waits_from", "options", "expected"),
    [
        ("see", 0, {}, (0, BEFORE)),  # nothing was generated yet
        ("see see , _me", 1, {}, (3, BEFORE)),
        ("see nl see", 2, {}, (2, BEFORE)),  # the line before it is complete
        ("see _ see _me", 2, {}, (3, BEFORE)),  # a space and what follows are not parted
        ("see see", 1, {"at_words": False}, (1, BEFORE)),
        ("see see CALL", 1, {}, (2, BEFORE)),
        ("see see TRAP", 1, {}, (2, BEFORE)),
        ("see EOS", 1, {}, (1, SEQUENCE)),
        (f"see {CALLING}", 2, {}, (5, BEHIND)),
        (f"{CALLING} see", 5, {}, (5, BEFORE)),
        (f"see {CALLING}", 2, {"at_words": False}, (5, BEHIND)),
        (f"see {CALLING}", 2, {"calls": CallStop.EACH}, (5, FRAME)),
        (f"{CALLING} {CALLING} _me", 1, {"calls": CallStop.BUNDLE}, (10, BUNDLE)),
        ("CALL json END _me", 1, {"calls": CallStop.BUNDLE}, (3, BEFORE)),
        ("CALL json END", 1, {"calls": CallStop.EACH}, (2, BEHIND)),
        ("TRAP END", 1, {}, (1, FRAME)),
    ],
)
def test_appended_tokens_wait_for_their_place(
    written: str, waits_from: int, options: dict[str, object], expected: tuple[int, Ruling]
) -> None:
    assert last(written, waits_from, **options) == expected


def test_appended_tokens_wait_so_long_for_a_word() -> None:
    word_without_end = " ".join(["see"] * (WORD_PATIENCE_TOKENS + 9))
    assert last(word_without_end, 5) == (5 + WORD_PATIENCE_TOKENS, BEFORE)


def test_markers_are_different_tokens() -> None:
    with pytest.raises(ConfigurationError, match="same token"):
        FrameRules(1, 2, 3, 4, 4, CallStop.NEVER)


@pytest.mark.parametrize(
    ("written", "in_reasoning", "ending"),
    [
        ("", None, FRAME),
        ("", True, KEEP),
        ("", False, FRAME),
        ("OPENING see", None, KEEP),
        ("OPENING see", False, FRAME),
        ("see", True, KEEP),
    ],
)
def test_a_prompt_says_whether_the_turn_begins_in_reasoning(
    written: str, in_reasoning: bool | None, ending: Ruling
) -> None:
    begun = replace(rules(), in_reasoning=in_reasoning)
    watching = FrameWatch(rules() if written else begun, frozenset({EOS}), SPELLED.__getitem__)
    for name in written.split():
        watching.feed(NAMES[name], interrupt_waits=False)
    if written:
        watching.begin_turn(begun, frozenset({EOS}))
    found = [watching.feed(NAMES[name], interrupt_waits=False) for name in ("TRAP", "END")]
    assert found == [KEEP, ending]
