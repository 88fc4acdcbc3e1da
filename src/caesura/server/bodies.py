"""JSON bodies: what they may hold, found out before anything is made of it, and how they are read.

A body of a few MiB can hold millions of values. Making Python objects of them takes hundreds of
times its memory, and seconds in which nobody else is served. So they are counted first, in the
bytes, by operations that pass over the body once each and make no objects.
"""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pydantic_core import from_json

from caesura.server.errors import ApiError

MOST_VALUES = 100_000
"""Numbers, texts, lists, objects and so on in one body."""
MOST_TOKENS = 2_000_000
"""The same in a body that is vLLM's, which may be a prompt in tokens."""
DEEPEST = 64
"""Lists and objects within each other."""
MOST_NAMES = 1000
"""Names in one object: each that is not known is an error of its own."""
ON_LOOP_BYTES = 256 * 2**10
"""Larger bodies are read in a thread."""
_THREADS = ThreadPoolExecutor(2, "caesura-bodies")
_SURROGATE = b"\\ud"
_BOM = b"\xef\xbb\xbf"
_STEPS = [0] * 256
for _opening, _closing in (b"[]", b"{}"):
    _STEPS[_opening], _STEPS[_closing] = 1, -1
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may hold.

    Attributes:
        size_bytes: its size.
        characters: of all its texts; None for any.
    """

    size_bytes: int
    characters: int | None = None

    def require_size(self, size_bytes: int) -> None:
        """See that a body is not too large.

        Raises:
            ApiError: it is.
        """
        if size_bytes > self.size_bytes:
            raise ApiError(
                413,
                f"the body is larger than {self.size_bytes} bytes (server.body_limit)",
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
        value = _with_surrogates(body, error)
    _require_content(value, limits)
    return value


async def require_light(body: bytes) -> None:
    """See that a body which is left to vLLM, and read on the event loop, is read in little time.

    Raises:
        ApiError: it is not.
    """
    if len(body) > ON_LOOP_BYTES:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(_THREADS, require_shape, body, MOST_TOKENS)


def require_shape(body: bytes, most_values: int | None = None) -> None:
    """See that a body has not too many values, nor too many within each other.

    What is counted is exact for JSON. Whatever is not JSON is wrong no later than where the count
    begins to differ, and nothing is made of what follows there.

    Args:
        body: in UTF-8.
        most_values: how many values it may have, of which `MOST_VALUES` (the default) may be lists
            and objects.

    Raises:
        ApiError: it has.
    """
    most_values = MOST_VALUES if most_values is None else most_values
    # Without escapes every quotation mark begins or ends a text.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * most_values:  # two for a name, two for its value
        raise _too_many(most_values)
    outside = b"".join(plain.split(b'"')[::2])
    opened = outside.count(b"[") + outside.count(b"{")
    if opened > MOST_VALUES:
        raise _too_many(MOST_VALUES)
    if outside.count(b",") + opened > most_values:
        raise _too_many(most_values)
    brackets = outside.translate(None, _NO_BRACKETS)
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > DEEPEST:
        raise _too_much(f"lists and objects more than {DEEPEST} deep in each other")


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
                    raise _too_much(f"an object with more than {MOST_NAMES:,} names")
                rest += items.values()
    if limits.characters is not None and characters > limits.characters:
        raise ApiError(
            400,
            f"{characters:,} characters are more than fit the model's context, whatever they say",
            code="context_length_exceeded",
        )


def _with_surrogates(body: bytes, error: ValueError) -> Any:
    """The value of a body that is JSON but for halves of characters: validation names where."""
    if _SURROGATE in body.lower() and len(body) <= ON_LOOP_BYTES:
        try:
            return json.loads(body)
        except ValueError:
            pass
    raise json.JSONDecodeError(str(error), "", 0) from error


def _too_much(what: str) -> ApiError:
    return ApiError(400, f"the body has {what}", code="body_too_complex")


def _too_many(most: int) -> ApiError:
    return _too_much(f"more than {most:,} values")
