import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.cml import (
    Call,
    Channel,
    FireAndForget,
    Interrupt,
    Piece,
    Text,
    Trap,
)
from support.cml.streams import encode_text, joined, pieces, streams
from support.cml.transcript import MalformedTranscript, read_transcript

reasoning = st.builds(Text, streams.filter(bool), st.just(Channel.REASONING))


@given(st.lists(pieces, max_size=8))
def test_what_was_written_is_read(written: list[Piece]) -> None:
    assert read_transcript(encode_text(written)) == joined(written)


@given(reasoning, st.lists(pieces, max_size=3))
def test_reasoning_is_read(thought: Text, written: list[Piece]) -> None:
    assert read_transcript(encode_text([thought, *written])) == joined([thought, *written])


def test_a_session_with_all_kinds_of_frames() -> None:
    stream = (
        "<think>[CALL] would do</think>I look.[CALL] a1 [HEAD] "
        '{"name": "f"} [END][CALL]{"name": "log"}[END][TRAP] [END][INTR]a1[HEAD] 42 [END]It is 42.'
    )
    assert read_transcript(stream) == [
        Text("[CALL] would do", Channel.REASONING),
        Text("I look."),
        Call("a1", "f"),
        FireAndForget("log"),
        Trap(),
        Interrupt("a1", " 42 "),
        Text("It is 42."),
    ]


def test_an_empty_reasoning_block_leaves_no_trace() -> None:
    assert read_transcript("<think></think>a<think></think>b") == [Text("ab")]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ("ab[HEAD]", "after 2 characters: a marker that begins no frame"),
        ("[END]", "begins no frame"),
        ("[CALL]a1[HEAD]{}[END]", "must be the name of a tool"),
        ('[CALL]a1[HEAD]{"name": "f"}', "has no end"),
        ("[CALL]1[HEAD]{}[END]", '"1" is not an id'),
        ("[CALL]a1[CALL]", r"\[CALL\] before"),
        ("[CALL]a1[HEAD]x[HEAD]y[END]", r"\[HEAD\] before"),
        ("[INTR]value[END]", "none of the grammar"),
        ("[TRAP]x[END]", "none of the grammar"),
        ("[TRAP]a[HEAD][END]", "none of the grammar"),
        ("<think>hm", "no end"),
    ],
)
def test_what_breaks_the_grammar_is_refused_with_its_place(stream: str, message: str) -> None:
    with pytest.raises(MalformedTranscript, match=message):
        read_transcript(stream)
