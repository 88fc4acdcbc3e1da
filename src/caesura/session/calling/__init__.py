"""Sessions whose model calls functions while it generates (docs/reference/cml.md)."""

from caesura.session.calling.arrivals import Arrival
from caesura.session.calling.calling_session import CallingSession
from caesura.session.calling.checkpoint import Checkpoint
from caesura.session.calling.codec import Codec
from caesura.session.calling.course import Course
from caesura.session.calling.driver import Driver, Execute
from caesura.session.calling.durations import Durations, Expectations
from caesura.session.calling.happenings import (
    CallingEvent,
    CallIssued,
    Ended,
    Ending,
    FirstToken,
    Injected,
    Mistake,
    Paused,
    SentOff,
    TextWritten,
    Trapped,
)
from caesura.session.calling.known_tools import known_tools
from caesura.session.calling.timeline import CallSpan, Span, SpanKind, Timeline

__all__ = [
    "Arrival",
    "CallIssued",
    "CallSpan",
    "CallingEvent",
    "CallingSession",
    "Checkpoint",
    "Codec",
    "Course",
    "Driver",
    "Durations",
    "Ended",
    "Ending",
    "Execute",
    "Expectations",
    "FirstToken",
    "Injected",
    "Mistake",
    "Paused",
    "SentOff",
    "Span",
    "SpanKind",
    "TextWritten",
    "Timeline",
    "Trapped",
    "known_tools",
]
