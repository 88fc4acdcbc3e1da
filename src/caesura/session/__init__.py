"""Sessions: conversations that pause, resume and can be interrupted."""

from caesura.cml import CallStop, FrameRules
from caesura.session.errors import (
    ContextFull,
    DuplicateSession,
    EngineDead,
    EngineFailed,
    NotGenerating,
    NotPaused,
    SessionClosed,
    SessionDetached,
    SessionError,
    UnknownSession,
)
from caesura.session.protocol import (
    Delta,
    EngineStream,
    Sampling,
    StopReason,
    TokenEngine,
)
from caesura.session.session import Session, SessionState

__all__ = [
    "CallStop",
    "ContextFull",
    "Delta",
    "DuplicateSession",
    "EngineDead",
    "EngineFailed",
    "EngineStream",
    "FrameRules",
    "NotGenerating",
    "NotPaused",
    "Sampling",
    "Session",
    "SessionClosed",
    "SessionDetached",
    "SessionError",
    "SessionState",
    "StopReason",
    "TokenEngine",
    "UnknownSession",
]
