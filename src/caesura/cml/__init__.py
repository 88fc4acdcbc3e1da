"""CML: calls, results and waiting in one stream (docs/cml.md)."""

from caesura.cml.body import KnownTools
from caesura.cml.encoder import encode_text, encode_tokens
from caesura.cml.escaping import Unescaper, escape, unescape
from caesura.cml.faults import ErrorKind, ProtocolError
from caesura.cml.frames import (
    ERROR_ID,
    USER_ID,
    Call,
    Channel,
    FireAndForget,
    Frame,
    Interrupt,
    Limits,
    Piece,
    Text,
    Trap,
    error_content,
)
from caesura.cml.machine import EndOfStream, Event, MonitorSettings, State
from caesura.cml.markers import Marker, ReasoningEdge, ReasoningTags, Vocabulary
from caesura.cml.monitor import IncrementalDecoder, Monitor, TextMonitor, TokenMonitor
from caesura.cml.transcript import MalformedTranscript, read_transcript

__all__ = [
    "ERROR_ID",
    "USER_ID",
    "Call",
    "Channel",
    "EndOfStream",
    "ErrorKind",
    "Event",
    "FireAndForget",
    "Frame",
    "IncrementalDecoder",
    "Interrupt",
    "KnownTools",
    "Limits",
    "MalformedTranscript",
    "Marker",
    "Monitor",
    "MonitorSettings",
    "Piece",
    "ProtocolError",
    "ReasoningEdge",
    "ReasoningTags",
    "State",
    "Text",
    "TextMonitor",
    "TokenMonitor",
    "Trap",
    "Unescaper",
    "Vocabulary",
    "encode_text",
    "encode_tokens",
    "error_content",
    "escape",
    "read_transcript",
    "unescape",
]
