"""The ids of a session's calls."""

from collections.abc import Iterable

from caesura.cml.faults import ErrorKind, ProtocolError, excerpt
from caesura.cml.frames import RESERVED_IDS, Limits, is_id


class CallIds:
    """The ids that a session has used. Each names one call, even after its result has come."""

    def __init__(self, limits: Limits, used: Iterable[str] = ()) -> None:
        self._limits = limits
        self._used = set(used)

    def take(self, call_id: str) -> ProtocolError | None:
        """Give the id to a new call, or say why the call cannot have it."""
        error = self._objection(call_id)
        if error is None:
            self._used.add(call_id)
        return error

    def _objection(self, call_id: str) -> ProtocolError | None:
        if not call_id:
            return ProtocolError(ErrorKind.MISSING_ID, "[HEAD] must follow an id.")
        if len(call_id) > self._limits.id_characters:
            return ProtocolError(
                ErrorKind.ID_TOO_LONG,
                f"The id {excerpt(call_id)} has more than {self._limits.id_characters} characters.",
            )
        if not is_id(call_id):
            return ProtocolError(
                ErrorKind.MALFORMED_ID,
                f"{excerpt(call_id)} is not an id: a letter, then letters, digits or _.",
            )
        if call_id in RESERVED_IDS:
            return ProtocolError(
                ErrorKind.RESERVED_ID, f"The id {excerpt(call_id)} is reserved. Use another."
            )
        if call_id in self._used:
            return ProtocolError(
                ErrorKind.DUPLICATE_ID,
                f"The id {excerpt(call_id)} was used before. Write the call with a new id.",
            )
        if len(self._used) >= self._limits.calls_per_session:
            return ProtocolError(
                ErrorKind.TOO_MANY_FRAMES,
                f"A session may have {self._limits.calls_per_session} calls. "
                "Answer without another.",
            )
        return None
