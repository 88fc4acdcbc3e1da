"""CML: calls, results and waiting in one stream (docs/reference/cml.md)."""

from caesura.cml.body import KnownTools
from caesura.cml.encoder import encode_tokens
from caesura.cml.escaping import escape, unescape
from caesura.cml.faults import ErrorKind, ProtocolError
from caesura.cml.frame_rules import CallStop, FrameRules
from caesura.cml.frame_watch import Ending, FrameWatch, Ruling, Verdict
from caesura.cml.frames import (
    ERROR_ID,
    USER_ID,
    Call,
    Channel,
    FireAndForget,
    Interrupt,
    Limits,
    Piece,
    Text,
    Trap,
    error_content,
)
from caesura.cml.grammar import State
from caesura.cml.machine import EndOfStream, Event, MonitorSettings
from caesura.cml.markers import ALL_SYMBOLS, MARKERS, Marker, ReasoningEdge
from caesura.cml.modes import AtEnd, End, GoOn, Inject, Mode, Pause, Point, Situation, next_step
from caesura.cml.monitor import IncrementalDecoder, Monitor
from caesura.cml.rules import Rules, Violation, ViolationKind

__all__ = [
    "ALL_SYMBOLS",
    "ERROR_ID",
    "MARKERS",
    "USER_ID",
    "AtEnd",
    "Call",
    "CallStop",
    "Channel",
    "End",
    "EndOfStream",
    "Ending",
    "ErrorKind",
    "Event",
    "FireAndForget",
    "FrameRules",
    "FrameWatch",
    "GoOn",
    "IncrementalDecoder",
    "Inject",
    "Interrupt",
    "KnownTools",
    "Limits",
    "Marker",
    "Mode",
    "Monitor",
    "MonitorSettings",
    "Pause",
    "Piece",
    "Point",
    "ProtocolError",
    "ReasoningEdge",
    "Rules",
    "Ruling",
    "Situation",
    "State",
    "Text",
    "Trap",
    "Verdict",
    "Violation",
    "ViolationKind",
    "encode_tokens",
    "error_content",
    "escape",
    "next_step",
    "unescape",
]
