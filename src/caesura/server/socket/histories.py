"""The responses of one socket that can be continued: the latest of each lane, in memory."""

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum

from caesura.server.socket.client_events import Json

_MOST_ENDED = 1000  # ids of responses that are over


class Ending(StrEnum):
    """How a response is over."""

    COMPLETED = "completed"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class History:
    """What a response is continued from.

    Attributes:
        items: everything so far that the server has not stored, its output last.
        stored: the stored response before all that; None if there is none.
    """

    items: tuple[Json, ...]
    stored: str | None = None


class Histories:
    """Histories by response; each lane has one, so that a socket's memory is bounded by theirs."""

    def __init__(self) -> None:
        self._kept: dict[str, History] = {}
        self._latest: dict[str | None, str] = {}
        self._ended: OrderedDict[str, Ending] = OrderedDict()

    def keep(self, stream_id: str | None, response_id: str, history: History) -> None:
        """A response is its lane's latest."""
        self.forget_latest(stream_id)
        self._kept[response_id] = history
        self._latest[stream_id] = response_id

    def of(self, response_id: str | None) -> History | None:
        """The history of a response; None if it is not in memory."""
        return None if response_id is None else self._kept.get(response_id)

    def failed(self, stream_id: str | None, previous: str | None) -> None:
        """A continuation has failed: in its own lane, what it continued is forgotten."""
        if previous is not None and self._latest.get(stream_id) == previous:
            self.forget_latest(stream_id)

    def forget_latest(self, stream_id: str | None) -> None:
        """The lane has no response that can be continued."""
        if (before := self._latest.pop(stream_id, None)) is not None:
            del self._kept[before]

    def ended(self, response_id: str, ending: Ending) -> None:
        """A response is over."""
        self._ended[response_id] = ending
        if len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)

    def ending_of(self, response_id: str) -> Ending | None:
        """How a response is over; None for one that this socket has not had."""
        return self._ended.get(response_id)
