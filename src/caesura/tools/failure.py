"""Why an attempt failed."""

from caesura.errors import CaesuraError
from caesura.tools.call import CallEnding


class ToolError(CaesuraError):
    """Raise it in a Python tool to tell the model what went wrong.

    The message reaches the model as it is. Of any other exception the model reads only the name
    of its class, since its text may hold what is nobody's business; the log has all of it.
    """


class AttemptFailed(CaesuraError):
    """An attempt did not give a result.

    Attributes:
        ending: how the call ends, if it is not tried again.
        error_type: a word for the model, in `error.type`.
        transient: another attempt may succeed.
        retry_after_seconds: what the other side asks to wait before it.
        is_uncertain: the attempt may have had its effects all the same.
    """

    def __init__(
        self,
        message: str,
        *,
        ending: CallEnding = CallEnding.FAILED,
        error_type: str | None = None,
        transient: bool = False,
        retry_after_seconds: float | None = None,
        is_uncertain: bool = False,
    ) -> None:
        super().__init__(message)
        self.ending = ending
        self.error_type = error_type or ending.value
        self.transient = transient
        self.retry_after_seconds = retry_after_seconds
        self.is_uncertain = is_uncertain


class ToolRaised(AttemptFailed):
    """A tool raised what is not meant for the model; it is the cause of this, and is logged."""


class InvalidArguments(AttemptFailed):
    """The arguments are not JSON, do not fit the schema, or cannot be used."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ending=CallEnding.INVALID)
