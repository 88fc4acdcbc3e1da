"""What can go wrong with a session, as types that callers can catch."""

from caesura.tools.call import JournalUnavailable


class SessionError(Exception):
    """Base of all session errors. The session's transcript is never lost by one."""


class UnknownSession(SessionError):
    """No session of that id is open."""


class UnknownResponse(SessionError):
    """The owner has no response of that id."""

    def __init__(self, response_id: str) -> None:
        super().__init__(f"there is no response {response_id}")


class SessionClosed(SessionError):
    """The session was closed, or its engine request ended; it accepts no more tokens."""


class SessionDetached(SessionError):
    """The engine let a paused session go, for lack of room to remember it.

    Raised by a stream when it is extended or iterated; `Session` then opens a new one with its
    transcript, and its user does not notice.
    """


class NotPaused(SessionError):
    """`resume` was called while the session generates: use `interrupt` instead."""


class NotGenerating(SessionError):
    """`interrupt` was called while the session is paused or over: use `resume` instead."""


class DuplicateSession(SessionError):
    """There is a session of that id already."""


class RequestRepeated(SessionError):
    """The request was carried out before, and is not carried out again."""


class RequestConflict(SessionError):
    """Another request was made under the name of this one."""


class ContextFull(SessionError):
    """The tokens would fill the model's context: nothing could be generated."""


class StoreUnavailable(SessionError, JournalUnavailable):
    """What is stored cannot be read or written now: the disk is full, the file is locked, ...

    Nothing was written. It may be tried again.
    """


class ReplicaLost(StoreUnavailable):
    """This replica's lease is over, and other replicas may have its sessions."""


class StatementRefused(SessionError):
    """A statement does not fit what is stored: a second row of the same key, for instance."""


class QuotaExceeded(SessionError):
    """One of an owner's limits is reached.

    Attributes:
        retry_seconds: by then it may be different; None if that depends on the owner.
    """

    def __init__(self, message: str, retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class TooManySessions(QuotaExceeded):
    """As many sessions are open as one owner may have."""


class EngineFailed(SessionError):
    """The engine ended the session by itself; its transcript is intact and can be reopened."""


class EngineDead(EngineFailed):
    """The engine itself is gone, and every session with it; their transcripts are intact."""
