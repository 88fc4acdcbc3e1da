"""`caesura chat`: sessions of a server, in a terminal.

It knows the server by its HTTP API only, so that it starts at once and runs where vLLM is not.
"""

from caesura.chat.client import Refused, SessionsClient, Unreachable
from caesura.chat.run import ChatSettings, run_chat

__all__ = ["ChatSettings", "Refused", "SessionsClient", "Unreachable", "run_chat"]
