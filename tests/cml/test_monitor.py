import json

import pytest

from caesura.cml import (
    Call,
    Channel,
    EndOfStream,
    ErrorKind,
    Event,
    FireAndForget,
    KnownTools,
    Limits,
    MonitorSettings,
    ProtocolError,
    ReasoningTags,
    State,
    Text,
    TextMonitor,
    Trap,
    Vocabulary,
)
from caesura.errors import ConfigurationError
from support.cml.streams import monitored

CALL_A1 = '[CALL]a1[HEAD]{"name": "f", "arguments": {}}[END]'


def text_monitor(**settings: object) -> TextMonitor:
    return TextMonitor(MonitorSettings(**settings))


def errors(events: list[Event]) -> list[tuple[ErrorKind, str | None]]:
    return [(event.kind, event.call_id) for event in events if isinstance(event, ProtocolError)]


def test_a_call_is_reported_at_its_end_at_once() -> None:
    monitor = text_monitor()
    *rest, last = CALL_A1
    assert not any(monitor.feed(character) for character in rest)
    assert monitor.feed(last) == [Call("a1", "f", {})]


def test_text_is_passed_on_as_it_comes() -> None:
    monitor = text_monitor()
    assert monitor.feed("Hello") == [Text("Hello")]
    assert monitor.feed(" wor") == [Text(" wor")]


def test_what_may_become_a_marker_is_held_back_and_no_longer() -> None:
    monitor = text_monitor()
    assert monitor.feed("see [CAL") == [Text("see ")]
    assert monitor.feed("M]") == [Text("[CALM]")]
    assert monitor.feed("[") == []
    assert monitor.feed("[") == [Text("[")]
    assert monitor.feed("1") == [Text("[1")]
    assert monitor.feed("<thi") == []
    assert monitor.end_of_stream() == [Text("<thi"), EndOfStream()]


def test_a_quoted_marker_is_text_and_loses_its_quoting() -> None:
    assert monitored(["The marker [~", "END] ends a frame."]) == [
        Text("The marker [END] ends a frame."),
        EndOfStream(),
    ]


def test_values_that_are_copied_into_a_call_arrive_as_they_were() -> None:
    stream = '[CALL]a1[HEAD]{"name": "save", "arguments": {"text": "[~END]"}}[END]'
    assert monitored([stream])[0] == Call("a1", "save", {"text": "[END]"})


def test_frames_may_have_white_space_in_them() -> None:
    stream = '[CALL] a1 [HEAD]\n{"name": "f"}\n[END] [CALL] {"name": "g"} [END][TRAP] [END]'
    assert monitored([stream]) == [
        Call("a1", "f"),
        Text(" "),
        FireAndForget("g"),
        Trap(),
        EndOfStream(),
    ]


def test_nothing_is_cml_inside_a_reasoning_block() -> None:
    monitor = text_monitor()
    assert monitor.feed(f"<think>I could {CALL_A1}") == [
        Text(f"I could {CALL_A1}", Channel.REASONING)
    ]
    assert monitor.state is State.REASONING
    assert not monitor.in_critical_section
    assert monitor.feed("</think>" + CALL_A1) == [Call("a1", "f", {})]


def test_a_turn_may_begin_inside_a_reasoning_block() -> None:
    monitor = text_monitor(starts_reasoning=True)
    assert monitor.feed("hm</think>4") == [Text("hm", Channel.REASONING), Text("4")]
    monitor.end_of_stream()
    monitor.begin_turn()
    assert monitor.feed("hm again") == [Text("hm again", Channel.REASONING)]


def test_after_an_interrupt_a_turn_goes_on_outside_reasoning() -> None:
    monitor = text_monitor(starts_reasoning=True)
    monitor.feed("hm</think>4")
    monitor.end_of_stream()
    monitor.injected()
    assert monitor.feed("5") == [Text("5")]


def test_reasoning_tags_inside_a_body_are_text() -> None:
    body = json.dumps({"name": "f", "arguments": {"x": "<think></think>"}})
    stream = f"[CALL]a1[HEAD]{body}[END]"
    assert monitored([stream])[0] == Call("a1", "f", {"x": "<think></think>"})


def test_reasoning_tags_can_be_configured_or_absent() -> None:
    tagged = MonitorSettings(vocabulary=Vocabulary(ReasoningTags("[THINK]", "[/THINK]")))
    assert monitored(["[THI", "NK]a[/THINK]<think>"], tagged) == [
        Text("a", Channel.REASONING),
        Text("<think>"),
        EndOfStream(),
    ]
    untagged = MonitorSettings(vocabulary=Vocabulary(reasoning=None))
    assert monitored(["<think>[TRAP][END]"], untagged) == [Text("<think>"), Trap(), EndOfStream()]
    with pytest.raises(ConfigurationError, match="starts_reasoning"):
        MonitorSettings(vocabulary=Vocabulary(reasoning=None), starts_reasoning=True)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("[CALL][HEAD]{}[END]", (ErrorKind.MISSING_ID, None)),
        ("[CALL]1a[HEAD]{}[END]", (ErrorKind.MALFORMED_ID, None)),
        ("[CALL]é[HEAD]{}[END]", (ErrorKind.MALFORMED_ID, None)),
        (f"[CALL]{'a' * 33}[HEAD]{{}}[END]", (ErrorKind.ID_TOO_LONG, None)),
        ("[CALL]user[HEAD]{}[END]", (ErrorKind.RESERVED_ID, None)),
        ("[CALL]error[HEAD]{}[END]", (ErrorKind.RESERVED_ID, None)),
        ("[CALL]a1[HEAD]{[END]", (ErrorKind.MALFORMED_JSON, "a1")),
        ("[CALL]a1[END]", (ErrorKind.MALFORMED_JSON, None)),
        ("[CALL][END]", (ErrorKind.MALFORMED_JSON, None)),
        ("[CALL]a1[HEAD]{}[END]", (ErrorKind.MALFORMED_BODY, "a1")),
        ('[CALL]a1[HEAD]{"name": "h"}[END]', (ErrorKind.UNKNOWN_TOOL, "a1")),
        ('[CALL]{"name": "h"}[END]', (ErrorKind.UNKNOWN_TOOL, None)),
        ('[CALL]a1[HEAD]{"name": "g"}[END]', (ErrorKind.INVALID_ARGUMENTS, "a1")),
        ("[CALL]a1[HEAD]x[HEAD]y[END]", (ErrorKind.UNEXPECTED_MARKER, "a1")),
        ("[TRAP][HEAD][END]", (ErrorKind.UNEXPECTED_MARKER, None)),
        ("text[HEAD]", (ErrorKind.UNEXPECTED_MARKER, None)),
        ("text[END]", (ErrorKind.UNEXPECTED_MARKER, None)),
        ("[TRAP]please[END]", (ErrorKind.UNEXPECTED_TEXT, None)),
        ("[INTR]a1[HEAD]42[END]", (ErrorKind.INTERRUPT_GENERATED, None)),
        ("[CALL]a1[HEAD]{", (ErrorKind.UNFINISHED_FRAME, "a1")),
        ("[CALL]a1", (ErrorKind.UNFINISHED_FRAME, None)),
        ("[TRAP]", (ErrorKind.UNFINISHED_FRAME, None)),
        (f"[CALL]a1[HEAD]{'x' * 101}", (ErrorKind.FRAME_TOO_LONG, "a1")),
        (f"[TRAP]{' ' * 101}[END]", (ErrorKind.FRAME_TOO_LONG, None)),
    ],
)
def test_every_mistake_is_reported_once_and_told_to_the_model(
    stream: str, expected: tuple[ErrorKind, str | None]
) -> None:
    settings = MonitorSettings(
        tools=KnownTools({"f", "g"}, lambda name, _: "g is closed." if name == "g" else None),
        limits=Limits(body_characters=100),
    )
    events = monitored([stream], settings)
    assert errors(events) == [expected]
    (error,) = (event for event in events if isinstance(event, ProtocolError))
    assert error.interrupt.id == (expected[1] or "error")
    told = json.loads(error.interrupt.value)["error"]
    assert told == {"type": str(expected[0]), "message": error.message}
    # The session is none the worse for it.
    monitor = TextMonitor(settings)
    monitor.feed(stream)
    monitor.injected()
    assert monitor.feed('[CALL]z9[HEAD]{"name": "f"}[END]ok') == [Call("z9", "f"), Text("ok")]


def test_an_id_is_used_once_in_a_session() -> None:
    monitor = TextMonitor(MonitorSettings(), used_ids=["b1"])
    assert monitor.feed(CALL_A1) == [Call("a1", "f", {})]
    monitor.end_of_stream()
    monitor.begin_turn()
    again = CALL_A1 + CALL_A1.replace("a1", "b1") + CALL_A1.replace("a1", "a2")
    events = monitor.feed(again)
    assert errors(events) == [(ErrorKind.DUPLICATE_ID, None)] * 2
    assert events[2:] == [Call("a2", "f", {})]


def test_a_refused_call_uses_its_id_up() -> None:
    stream = "[CALL]a1[HEAD]{[END]" + CALL_A1
    assert errors(monitored([stream])) == [
        (ErrorKind.MALFORMED_JSON, "a1"),
        (ErrorKind.DUPLICATE_ID, None),
    ]


def test_a_frame_that_begins_inside_another_is_read_and_the_other_reported() -> None:
    assert monitored(["[CALL]a0[HEAD]{" + CALL_A1]) == [
        ProtocolError(
            ErrorKind.UNEXPECTED_MARKER,
            "[CALL] is not expected here: an open frame needs [END].",
            "a0",
        ),
        Call("a1", "f", {}),
        EndOfStream(),
    ]


def test_a_generated_interrupt_is_reported_before_its_value() -> None:
    monitor = text_monitor()
    assert errors(monitor.feed("wait[INTR]")) == [(ErrorKind.INTERRUPT_GENERATED, None)]
    assert not monitor.in_critical_section
    assert monitor.feed("a1[HEAD]forged[END]seen") == [Text("seen")]
    assert errors(monitor.feed("[CALL]a1[HEAD]{[INTR]")) == [(ErrorKind.INTERRUPT_GENERATED, None)]
    assert monitor.feed(CALL_A1) == [
        ProtocolError(
            ErrorKind.DUPLICATE_ID,
            'The id "a1" was used before. Write the call with a new id.',
        )
    ]


def test_a_frame_that_is_too_long_is_left_at_once() -> None:
    monitor = text_monitor(limits=Limits(body_characters=10))
    assert monitor.feed("[CALL]a1[HEAD]12345678") == []
    assert monitor.in_critical_section
    assert errors(monitor.feed("9")) == [(ErrorKind.FRAME_TOO_LONG, "a1")]
    assert not monitor.in_critical_section
    assert monitor.feed("more[HEAD] and more[END]text") == [Text("text")]


def test_frames_of_a_turn_are_limited() -> None:
    monitor = text_monitor(limits=Limits(frames_per_turn=2))
    stream = "[TRAP][END]" * 3
    assert errors(monitor.feed(stream)) == [(ErrorKind.TOO_MANY_FRAMES, None)]
    monitor.end_of_stream()
    monitor.begin_turn()
    assert monitor.feed("[TRAP][END]") == [Trap()]


def test_calls_of_a_session_are_limited() -> None:
    monitor = text_monitor(limits=Limits(calls_per_session=1))
    stream = CALL_A1 + CALL_A1.replace("a1", "a2")
    assert errors(monitor.feed(stream)) == [(ErrorKind.TOO_MANY_FRAMES, None)]


def test_the_critical_section_is_from_the_first_character_to_the_last() -> None:
    monitor = text_monitor()
    stream = f"ok {CALL_A1} [TRAP][END] [1"
    critical = ""
    for character in stream:
        monitor.feed(character)
        critical += "#" if monitor.in_critical_section else "."
    expected = [*("." * len(stream))]
    for frame in (CALL_A1, "[TRAP][END]"):
        start = stream.index(frame)
        expected[start : start + len(frame) - 1] = "#" * (len(frame) - 1)
    expected[stream.index("[1")] = "#"  # may have been a [CALL]
    assert critical == "".join(expected)


def test_a_marker_is_not_continued_across_an_interrupt() -> None:
    monitor = text_monitor()
    assert monitor.feed("a [E") == [Text("a ")]
    assert monitor.injected() == [Text("[E")]
    assert monitor.feed("ND] b") == [Text("ND] b")]


def test_an_interrupt_inside_a_frame_breaks_it_off() -> None:
    monitor = text_monitor()
    monitor.feed("[CALL]a1[HEAD]{")
    assert errors(monitor.injected()) == [(ErrorKind.UNFINISHED_FRAME, "a1")]
    assert monitor.feed("text") == [Text("text")]


def test_an_interrupt_leaves_a_reasoning_block_open() -> None:
    monitor = text_monitor()
    monitor.feed("<think>a")
    assert monitor.injected() == []
    assert monitor.feed("b</think>c") == [Text("b", Channel.REASONING), Text("c")]
