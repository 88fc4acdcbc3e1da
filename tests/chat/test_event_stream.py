"""Event streams, as the HTML standard writes them, in pieces of any size."""

from hypothesis import given
from hypothesis import strategies as st

from caesura.chat.event_stream import Frame, FrameReader
from caesura.server.sessions.event_stream import KEEP_ALIVE, encoded_event


def read(*pieces: bytes) -> list[Frame]:
    reader = FrameReader()
    return [frame for piece in pieces for frame in reader.feed(piece)]


def test_an_event_has_id_type_and_lines_of_data() -> None:
    (frame,) = read(b"id: 7\nevent: call.done\ndata: one\ndata:two\n\n")
    assert frame == Frame("7", "call.done", "one\ntwo")


def test_comments_and_unknown_fields_are_skipped() -> None:
    assert read(b": hello\n\n", KEEP_ALIVE, b"retry: 3\ndata: x\n\n") == [Frame("", "message", "x")]


def test_an_event_that_was_cut_off_is_not_given() -> None:
    assert read(b"id: 1\ndata: one\n\nid: 2\ndata: two\n") == [Frame("1", "message", "one")]


def test_lines_may_end_as_on_windows() -> None:
    assert read(b"id: 1\r\ndata: x\r\n\r\n") == [Frame("1", "message", "x")]


@given(st.text(), st.lists(st.integers(1, 30)))
def test_what_the_server_writes_is_read_in_pieces_of_any_size(text: str, sizes: list[int]) -> None:
    stream = encoded_event({"text": text}, "output.text.delta", 3) + KEEP_ALIVE
    pieces, rest = [], stream
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert read(*pieces, rest) == read(stream)
    assert len(read(stream)) == 1
