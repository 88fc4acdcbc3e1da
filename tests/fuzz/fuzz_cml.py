"""A fuzz target for CML: any bytes are a stream, and how it is cut."""

from caesura.cml import (
    Call,
    Event,
    FireAndForget,
    Interrupt,
    KnownTools,
    Limits,
    MonitorSettings,
    ProtocolError,
    Text,
    escape,
    unescape,
)
from support.cml.streams import TOKENIZER, cut, encode_text, monitored
from support.cml.transcript import MalformedTranscript, read_transcript

SETTINGS = (
    MonitorSettings(),
    MonitorSettings(
        tools=KnownTools({"f"}),
        limits=Limits(id_characters=4, body_characters=60, nesting=3, frames_per_turn=4),
        starts_reasoning=True,
    ),
)


def check(data: bytes) -> None:
    """Whatever the input: nothing is raised, lost, forged or dependent on how it was cut.

    Args:
        data: how many tokens each piece has, a zero, and a stream in UTF-8, markers spelled.
    """
    lengths, _, encoded = data.partition(b"\0")
    stream = encoded.decode(errors="replace")
    tokens = TOKENIZER.encode(stream)
    for settings in SETTINGS:
        events = monitored([tokens], settings)
        assert monitored(cut(tokens, lengths), settings) == events
        for event in events:
            check_event(event)
    check_as_data(stream)
    check_as_transcript(stream)


def check_event(event: Event) -> None:
    """A call can be written again, and of a mistake the model can be told."""
    if isinstance(event, Call | FireAndForget):
        assert monitored([TOKENIZER.encode(encode_text([event]))])[0] == event
    if isinstance(event, ProtocolError):
        assert read_transcript(encode_text([event.interrupt])) == [event.interrupt]


def check_as_data(text: str) -> None:
    """As a tool's result the stream is one interrupt, and as text it is that text."""
    interrupt = Interrupt("a1", text)
    assert read_transcript(encode_text([interrupt])) == [interrupt]
    assert unescape(escape(text)) == text
    for tokens in (TOKENIZER.encode(escape(text)), TOKENIZER.encode_plain(escape(text))):
        assert monitored([tokens])[:-1] == ([Text(text)] if text else [])


def check_as_transcript(stream: str) -> None:
    """What can be read at all means the same when it is written again."""
    try:
        pieces = read_transcript(stream)
    except MalformedTranscript:
        return
    assert read_transcript(encode_text(pieces)) == pieces
