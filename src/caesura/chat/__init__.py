"""`caesura chat`: sessions of a server, in a terminal; and the client of their HTTP API.

It knows the server by that API only, so that it starts at once and runs where vLLM is not.
"""

from caesura.chat.client import Refused, SessionsClient, Unreachable
from caesura.chat.records import (
    ApprovalView,
    EventKind,
    GivenAnswer,
    SessionEvent,
    SessionView,
)
from caesura.chat.run import ChatSettings, run_chat

__all__ = [
    "ApprovalView",
    "ChatSettings",
    "EventKind",
    "GivenAnswer",
    "Refused",
    "SessionEvent",
    "SessionView",
    "SessionsClient",
    "Unreachable",
    "run_chat",
]
