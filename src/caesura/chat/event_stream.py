"""The format of event streams (server-sent events, HTML Living Standard 9.2.6), read."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of a stream.

    Attributes:
        id: the latest id, empty if there was none.
        kind: its type.
        data: its lines of data, joined.
    """

    id: str
    kind: str
    data: str


class FrameReader:
    """Takes a stream in pieces of any size and gives its events. Comments are skipped."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""
        self._id = ""
        self._kind = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """Take the next bytes."""
        *lines, self._rest = (self._rest + self._decode(piece)).split("\n")
        for line in lines:
            frame = self._line(line.removesuffix("\r"))
            if frame is not None:
                yield frame

    def _line(self, line: str) -> Frame | None:
        if not line:
            return self._complete()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                self._id = value
            case "event":
                self._kind = value
            case "data":
                self._data.append(value)
        return None

    def _complete(self) -> Frame | None:
        frame = Frame(self._id, self._kind or "message", "\n".join(self._data))
        is_empty = not self._data
        self._kind, self._data = "", []
        return None if is_empty else frame
