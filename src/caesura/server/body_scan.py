"""What a JSON body holds, counted in its bytes part by part, before anything is made of it.

A body of a few MiB can hold millions of values. Making Python objects of them takes hundreds of
times its memory, and seconds in which nobody else is served. A scan passes over each part as it
arrives, by a few operations on bytes that make no objects, and keeps nothing but counts. So a body
is refused where it becomes too much, whatever would follow.
"""

import codecs
import re
from itertools import accumulate

from caesura.server.errors import ApiError

MOST_VALUES = 100_000
"""Numbers, texts, lists, objects and so on in one body."""
DEEPEST = 64
"""Lists and objects within each other."""
SLICE_BYTES = 64 * 2**10
"""Larger parts are scanned in slices, so that nobody waits for more than one of them."""
_STEPS = [0] * 256
for _opening, _closing in (b"[]", b"{}"):
    _STEPS[_opening], _STEPS[_closing] = 1, -1
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_HEX = rb"[\dA-Fa-f]"
_HIGH, _LOW = rb"\\u[dD][89abAB]" + _HEX * 2, rb"\\u[dD][c-fC-F]" + _HEX * 2
# Each begins at a backslash that is not escaped itself, and at the end of what is there.
_UNFINISHED_BYTES = 11
_UNFINISHED = re.compile(rb"(?:%b)?\\(?:u%b{0,3})?\Z|%b\Z" % (_HIGH, _HEX, _HIGH))
_PAIR = re.compile(_HIGH + _LOW)
_HALF = re.compile(rb"\\u[dD][89A-Fa-f]")


class BodyScan:
    """Counts in one body in UTF-8, which is fed in parts.

    What is counted is exact for JSON. Whatever is not JSON is wrong no later than where the count
    begins to differ, and nothing is made of what follows there.

    Args:
        most_values: how many values it may have, of which `MOST_VALUES` may be lists and objects,
            and twice as many texts, if they are names and values.

    Attributes:
        is_unicode: whether no text so far has half of a surrogate pair.
    """

    def __init__(self, most_values: int | None = None) -> None:
        self._most_values = MOST_VALUES if most_values is None else most_values
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.is_unicode = True
        self._unfinished = b""
        self._in_text = False
        self._quotes = self._opened = self._commas = self._depth = 0

    def feed(self, part: bytes) -> None:
        """Count a part.

        Raises:
            ApiError: with it the body has too much, or it is not UTF-8.
        """
        self._feed(part, is_last=False)

    def end(self) -> None:
        """There are no more parts.

        Raises:
            ApiError: the last one ends in the middle of a character.
        """
        self._feed(b"", is_last=True)

    def _feed(self, part: bytes, *, is_last: bool) -> None:
        self._require_text(part, is_last=is_last)
        part = self._unfinished + part
        if b"\\" in part:
            part = self._without_escapes(part, is_last=is_last)
        self._count(part)

    def _without_escapes(self, part: bytes, *, is_last: bool) -> bytes:
        """The part, of which every quotation mark begins or ends a text; an escape that may go on
        in the next part is kept for it."""
        plain = part.replace(rb"\\", b"__")  # now a backslash begins an escape
        self._unfinished = b""
        if not is_last and (
            cut := _UNFINISHED.search(plain, max(0, len(plain) - _UNFINISHED_BYTES))
        ):
            self._unfinished, plain = plain[cut.start() :], plain[: cut.start()]
        if (rb"\ud" in plain or rb"\uD" in plain) and _HALF.search(_PAIR.sub(b"", plain)):
            self.is_unicode = False
        return plain.replace(rb"\"", b"")

    def _require_text(self, part: bytes, *, is_last: bool) -> None:
        try:
            self._decoder.decode(part, is_last)
        except UnicodeDecodeError:
            part = b"\0"
        # Readers of JSON take NUL for a sign of UTF-16, in which other bytes would count.
        if b"\0" in part:
            raise ApiError(400, "the body is not JSON in UTF-8", code="not_json")

    def _count(self, plain: bytes) -> None:
        self._quotes += (quotes := plain.count(b'"'))
        if self._quotes > 4 * MOST_VALUES:  # two for a name, two for its value
            raise _too_many(MOST_VALUES)
        if self._in_text and not quotes:
            return
        outside = b"".join(plain.split(b'"')[int(self._in_text) :: 2])
        self._in_text ^= quotes % 2 == 1
        self._opened += outside.count(b"[") + outside.count(b"{")
        if self._opened > MOST_VALUES:
            raise _too_many(MOST_VALUES)
        self._commas += outside.count(b",")
        if self._commas + self._opened > self._most_values:
            raise _too_many(self._most_values)
        brackets = outside.translate(None, _NO_BRACKETS)
        depths = [*accumulate(map(_STEPS.__getitem__, brackets), initial=self._depth)]
        self._depth = depths[-1]
        if max(depths) > DEEPEST:
            raise too_much(f"lists and objects more than {DEEPEST} deep in each other")
        if min(depths) < 0:
            raise ApiError(400, "the body is not JSON", code="not_json")


def slices(body: bytes) -> list[bytes]:
    """A body in parts that are scanned in no time."""
    return [body[at : at + SLICE_BYTES] for at in range(0, len(body), SLICE_BYTES)]


def too_much(what: str) -> ApiError:
    """The error of a body that has too much of something."""
    return ApiError(400, f"the body has {what}", code="body_too_complex")


def _too_many(most: int) -> ApiError:
    return too_much(f"more than {most:,} values")
