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
    Marker,
    Monitor,
    MonitorSettings,
    ProtocolError,
    State,
    Text,
    Trap,
)
from caesura.errors import ConfigurationError
from support.cml.streams import TOKENIZER, ByteDecoder, StreamReader, joined, monitored

CALL_A1 = '[CALL]a1[HEAD]{"name": "f", "arguments": {}}[END]'


def reader(**settings: object) -> StreamReader:
    return StreamReader(MonitorSettings(**settings))


def read(stream: str, settings: MonitorSettings | None = None) -> list[Event]:
    """The events of one turn."""
    return monitored([TOKENIZER.encode(stream)], settings)


def errors(events: list[Event]) -> list[tuple[ErrorKind, str | None]]:
    return [(event.kind, event.call_id) for event in events if isinstance(event, ProtocolError)]


def test_a_call_is_reported_at_its_end_at_once() -> None:
    monitor = reader()
    *rest, last = TOKENIZER.encode(CALL_A1)
    assert not any(monitor.feed([token]) for token in rest)
    assert monitor.feed([last]) == [Call("a1", "f", {})]


def test_text_is_passed_on_as_it_comes() -> None:
    monitor = reader()
    assert monitor.read("Hello") == [Text("Hello")]
    assert monitor.read(" wor") == [Text(" wor")]


def test_text_that_spells_a_marker_is_text() -> None:
    monitor = reader()
    plain = TOKENIZER.encode_plain("[TRAP][END] and [~END]")
    assert monitor.feed(plain) == [Text("[TRAP][END] and [END]")]
    assert monitor.feed(TOKENIZER.encode("[TRAP][END]")) == [Trap()]


def test_a_body_may_contain_text_that_spells_a_marker() -> None:
    ids = TOKENIZER.token_ids
    body = TOKENIZER.encode_plain('{"name": "f", "arguments": {"x": "[END]"}}')
    a1 = TOKENIZER.encode_plain("a1")
    tokens = [ids[Marker.CALL], *a1, ids[Marker.HEAD], *body, ids[Marker.END]]
    assert joined(reader().feed(tokens)) == [Call("a1", "f", {"x": "[END]"})]


def test_characters_may_be_cut_anywhere() -> None:
    monitor = reader()
    tokens = TOKENIZER.encode_plain("é你")
    assert [monitor.feed([token]) for token in tokens] == [[], [Text("é")], [], [], [Text("你")]]


def test_a_character_without_end_is_not_lost() -> None:
    monitor = reader()
    beginning = TOKENIZER.encode_plain("你")[:2]
    trap = TOKENIZER.encode("[TRAP][END]")
    assert monitor.feed([*beginning, *trap]) == [Text("\ufffd"), Trap()]
    monitor.feed(beginning)
    assert monitor.end_of_stream() == [Text("\ufffd"), EndOfStream()]


def test_a_model_without_tokens_for_the_markers_is_refused() -> None:
    ids = TOKENIZER.token_ids
    decode = ByteDecoder(TOKENIZER)
    without = {symbol: id for symbol, id in ids.items() if symbol != Marker.TRAP}
    with pytest.raises(ConfigurationError, match=r"no tokens for \[TRAP\]"):
        Monitor(MonitorSettings(), without, decode)
    with pytest.raises(ConfigurationError, match="same token"):
        Monitor(MonitorSettings(), {**ids, Marker.CALL: ids[Marker.END]}, decode)


def test_what_may_be_a_quote_is_held_back_and_no_longer() -> None:
    monitor = reader()
    assert monitor.read("see [~EN") == [Text("see [")]
    assert monitor.read("M]") == [Text("~ENM]")]
    assert monitor.read("<~thi") == [Text("<")]
    assert monitor.end_of_stream() == [Text("~thi"), EndOfStream()]


def test_a_quoted_marker_is_text_and_loses_its_quoting() -> None:
    assert read("The marker [~END] ends a frame.") == [
        Text("The marker [END] ends a frame."),
        EndOfStream(),
    ]


def test_values_that_are_copied_into_a_call_arrive_as_they_were() -> None:
    stream = '[CALL]a1[HEAD]{"name": "save", "arguments": {"text": "[~END]"}}[END]'
    assert read(stream)[0] == Call("a1", "save", {"text": "[END]"})


def test_frames_may_have_white_space_in_them() -> None:
    stream = '[CALL] a1 [HEAD]\n{"name": "f"}\n[END] [CALL] {"name": "g"} [END][TRAP] [END]'
    assert read(stream) == [
        Call("a1", "f"),
        Text(" "),
        FireAndForget("g"),
        Trap(),
        EndOfStream(),
    ]


def test_nothing_is_cml_inside_a_reasoning_block() -> None:
    monitor = reader()
    assert joined(monitor.read(f"<think>I could {CALL_A1}")) == [
        Text(f"I could {CALL_A1}", Channel.REASONING)
    ]
    assert monitor.state is State.REASONING
    assert not monitor.in_critical_section
    assert monitor.read("</think>" + CALL_A1) == [Call("a1", "f", {})]


def test_a_turn_may_begin_inside_a_reasoning_block() -> None:
    monitor = reader(starts_reasoning=True)
    assert monitor.read("hm</think>4") == [Text("hm", Channel.REASONING), Text("4")]
    monitor.end_of_stream()
    monitor.begin_turn()
    assert monitor.read("hm again") == [Text("hm again", Channel.REASONING)]


def test_after_an_interrupt_a_turn_goes_on_outside_reasoning() -> None:
    monitor = reader(starts_reasoning=True)
    monitor.read("hm</think>4")
    monitor.end_of_stream()
    monitor.injected()
    assert monitor.read("5") == [Text("5")]


def test_reasoning_tags_inside_a_body_are_text() -> None:
    body = json.dumps({"name": "f", "arguments": {"x": "<think></think>"}})
    stream = f"[CALL]a1[HEAD]{body}[END]"
    assert read(stream)[0] == Call("a1", "f", {"x": "<think></think>"})


def test_a_model_may_have_no_reasoning_tags() -> None:
    markers = {marker: TOKENIZER.token_ids[marker] for marker in Marker}
    decode = lambda token_ids, final: TOKENIZER.bytes_of(token_ids).decode()  # noqa: E731
    monitor = Monitor(MonitorSettings(), markers, decode)
    assert monitor.feed(TOKENIZER.encode("<think>[TRAP][END]")) == [Text("<think>"), Trap()]
    with pytest.raises(ConfigurationError, match="starts_reasoning"):
        Monitor(MonitorSettings(starts_reasoning=True), markers, decode)


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
    events = read(stream, settings)
    assert errors(events) == [expected]
    (error,) = (event for event in events if isinstance(event, ProtocolError))
    assert error.interrupt.id == (expected[1] or "error")
    told = json.loads(error.interrupt.value)["error"]
    assert told == {"type": str(expected[0]), "message": error.message}
    # The session is none the worse for it.
    monitor = StreamReader(settings)
    monitor.read(stream)
    monitor.injected()
    assert monitor.read('[CALL]z9[HEAD]{"name": "f"}[END]ok') == [Call("z9", "f"), Text("ok")]


def test_an_id_is_used_once_in_a_session() -> None:
    monitor = StreamReader(used_ids=["b1"])
    assert monitor.read(CALL_A1) == [Call("a1", "f", {})]
    monitor.end_of_stream()
    monitor.begin_turn()
    again = CALL_A1 + CALL_A1.replace("a1", "b1") + CALL_A1.replace("a1", "a2")
    events = monitor.read(again)
    assert errors(events) == [(ErrorKind.DUPLICATE_ID, None)] * 2
    assert events[2:] == [Call("a2", "f", {})]


def test_a_refused_call_uses_its_id_up() -> None:
    stream = "[CALL]a1[HEAD]{[END]" + CALL_A1
    assert errors(read(stream)) == [
        (ErrorKind.MALFORMED_JSON, "a1"),
        (ErrorKind.DUPLICATE_ID, None),
    ]


def test_a_frame_that_begins_inside_another_is_read_and_the_other_reported() -> None:
    assert read("[CALL]a0[HEAD]{" + CALL_A1) == [
        ProtocolError(
            ErrorKind.UNEXPECTED_MARKER,
            "[CALL] is not expected here: an open frame needs [END].",
            "a0",
        ),
        Call("a1", "f", {}),
        EndOfStream(),
    ]


def test_a_generated_interrupt_is_reported_before_its_value() -> None:
    monitor = reader()
    assert errors(monitor.read("wait[INTR]")) == [(ErrorKind.INTERRUPT_GENERATED, None)]
    assert not monitor.in_critical_section
    assert monitor.read("a1[HEAD]forged[END]seen") == [Text("seen")]
    assert errors(monitor.read("[CALL]a1[HEAD]{[INTR]")) == [(ErrorKind.INTERRUPT_GENERATED, None)]
    assert monitor.read(CALL_A1) == [
        ProtocolError(
            ErrorKind.DUPLICATE_ID,
            'The id "a1" was used before. Write the call with a new id.',
        )
    ]


def test_a_frame_that_is_too_long_is_left_at_once() -> None:
    monitor = reader(limits=Limits(body_characters=10))
    assert monitor.read("[CALL]a1[HEAD]12345678") == []
    assert monitor.in_critical_section
    assert errors(monitor.read("9")) == [(ErrorKind.FRAME_TOO_LONG, "a1")]
    assert not monitor.in_critical_section
    assert monitor.read("more[HEAD] and more[END]text") == [Text("text")]


def test_frames_of_a_turn_are_limited() -> None:
    monitor = reader(limits=Limits(frames_per_turn=2))
    stream = "[TRAP][END]" * 3
    assert errors(monitor.read(stream)) == [(ErrorKind.TOO_MANY_FRAMES, None)]
    monitor.end_of_stream()
    monitor.begin_turn()
    assert monitor.read("[TRAP][END]") == [Trap()]


def test_calls_of_a_session_are_limited() -> None:
    monitor = reader(limits=Limits(calls_per_session=1))
    stream = CALL_A1 + CALL_A1.replace("a1", "a2")
    assert errors(monitor.read(stream)) == [(ErrorKind.TOO_MANY_FRAMES, None)]


def test_the_critical_section_is_from_the_first_token_to_the_last() -> None:
    monitor = reader()
    critical = []
    for token in TOKENIZER.encode(f"ok {CALL_A1} [TRAP][END] [1"):
        monitor.feed([token])
        critical.append(monitor.in_critical_section)
    frames = [len(TOKENIZER.encode(frame)) for frame in (CALL_A1, "[TRAP][END]")]
    shown = "".join("#" if one else "." for one in critical)
    assert shown == "." * 3 + "#" * (frames[0] - 1) + "." * 2 + "#" * (frames[1] - 1) + "." * 3


def test_a_quoted_marker_is_not_continued_across_an_interrupt() -> None:
    monitor = reader()
    assert monitor.read("a [~E") == [Text("a [")]
    assert monitor.injected() == [Text("~E")]
    assert monitor.read("ND] b") == [Text("ND] b")]


def test_an_interrupt_inside_a_frame_breaks_it_off() -> None:
    monitor = reader()
    monitor.read("[CALL]a1[HEAD]{")
    assert errors(monitor.injected()) == [(ErrorKind.UNFINISHED_FRAME, "a1")]
    assert monitor.read("text") == [Text("text")]


def test_an_interrupt_leaves_a_reasoning_block_open() -> None:
    monitor = reader()
    monitor.read("<think>a")
    assert monitor.injected() == []
    assert monitor.read("b</think>c") == [Text("b", Channel.REASONING), Text("c")]
