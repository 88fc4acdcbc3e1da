"""JSON bodies of this API: what they may hold, and how they are read."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any

from pydantic_core import from_json

from caesura.server.body_scan import BodyScan, slices, too_much
from caesura.server.errors import ApiError

MOST_NAMES = 1000
"""Names in one object: each that is not known is an error of its own."""
ON_LOOP_BYTES = 256 * 2**10
"""Larger bodies are read in a thread."""
_THREADS = ThreadPoolExecutor(2, "caesura-bodies")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may hold.

    Attributes:
        size_bytes: its size.
        characters: of all its texts; None for any.
        setting: where the size is set.
    """

    size_bytes: int
    characters: int | None = None
    setting: str = "server.body_limit"

    def require_size(self, size_bytes: int) -> None:
        """See that a body is not too large.

        Raises:
            ApiError: it is.
        """
        if size_bytes > self.size_bytes:
            raise ApiError(
                413,
                f"the body is larger than {self.size_bytes} bytes ({self.setting})",
                code="body_too_large",
            )


async def read_body(body: bytes, limits: BodyLimits) -> Any:
    """The value of a body; a large one is read in one of few threads.

    Raises:
        ApiError: it holds more than it may.
        JSONDecodeError: it is not JSON.
    """
    if len(body) <= ON_LOOP_BYTES:
        return read_json(body, limits)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, read_json, body, limits)


def read_json(body: bytes, limits: BodyLimits) -> Any:
    """The value of a body in UTF-8.

    Raises:
        ApiError: it holds more than it may.
        JSONDecodeError: it is not JSON.
    """
    limits.require_size(len(body))
    body = body.removeprefix(_BOM)
    require_shape(body)
    try:
        value = from_json(body)
    except ValueError as error:
        raise JSONDecodeError(str(error), "", 0) from error
    _require_content(value, limits)
    return value


def require_shape(body: bytes) -> None:
    """See that a body has not too many values, nor too many within each other.

    Args:
        body: in UTF-8.

    Raises:
        ApiError: it has.
    """
    scan = BodyScan()
    for part in slices(body):
        scan.feed(part)
    scan.end()


def _require_content(value: Any, limits: BodyLimits) -> None:
    characters, rest = 0, [value]
    while rest:
        match rest.pop():
            case str() as text:
                characters += len(text)
            case list() as items:
                rest += items
            case dict() as items:
                if len(items) > MOST_NAMES:
                    raise too_much(f"an object with more than {MOST_NAMES:,} names")
                rest += items.values()
    if limits.characters is not None and characters > limits.characters:
        raise ApiError(
            400,
            f"{characters:,} characters are more than fit the model's context, whatever they say",
            code="context_length_exceeded",
        )
