"""Whether two histories of messages are the same, by a digest of each message.

Two messages are the same if a chat template cannot be meant to tell them apart: fields without
a value do not count, nor does the white space around what an assistant says or in the JSON of
a tool call's arguments. Reasoning is digested apart, since most clients do not send it back.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

Message = Mapping[str, object]
"""One message of a chat, as in the Chat Completions API."""

DIGEST_BYTES = 16
_REASONING = ("reasoning", "reasoning_content")


@dataclass(frozen=True, slots=True)
class MessageDigest:
    """What identifies a message.

    Attributes:
        body: digest of all of it but its reasoning.
        reasoning: digest of its reasoning, None where it has none.
        of_assistant: whether it is an assistant's.
    """

    body: bytes
    reasoning: bytes | None
    of_assistant: bool

    def may_be(self, kept: "MessageDigest") -> bool:
        """Whether a message that comes back is a kept one; its reasoning may be missing."""
        return self.body == kept.body and self.reasoning in (None, kept.reasoning)


def digest(message: Message) -> MessageDigest:
    """The digest of one message."""
    of_assistant = message.get("role") == "assistant"
    reasoning = next((message[name] for name in _REASONING if message.get(name)), None)
    body = {name: value for name, value in message.items() if name not in _REASONING}
    body["content"] = _content(message.get("content"), strip=of_assistant)
    body["tool_calls"] = [_tool_call(call) for call in _items(message.get("tool_calls"))]
    return MessageDigest(
        body=_digest_of({name: value for name, value in body.items() if value not in _EMPTY}),
        reasoning=_digest_of(reasoning) if reasoning else None,
        of_assistant=of_assistant,
    )


def identity(*parts: object) -> bytes:
    """A digest of what a rendering depends on besides the messages."""
    return _digest_of(parts)


def chain(start: bytes, digests: Iterable[MessageDigest]) -> list[bytes]:
    """A key for each history: `start` for none, then one after each message."""
    return list(accumulate((each.body for each in digests), _link, initial=start))


def same_history(given: Sequence[MessageDigest], kept: Sequence[MessageDigest]) -> bool:
    """Whether messages that come back are the kept ones, one by one."""
    return len(given) == len(kept) and all(
        one.may_be(other) for one, other in zip(given, kept, strict=True)
    )


_EMPTY: tuple[object, ...] = (None, "", [], {})


def _link(key: bytes, body: bytes) -> bytes:
    return blake2b(key + body, digest_size=DIGEST_BYTES).digest()


def _digest_of(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def _content(content: object, *, strip: bool) -> object:
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], Mapping):
        (part,) = content
        if part.get("type") == "text":
            content = part.get("text")
    return content.strip() if strip and isinstance(content, str) else content


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, Iterable) and not isinstance(value, str) else ()


def _tool_call(call: object) -> object:
    """The call with its arguments as an object, if they are one."""
    if not isinstance(call, Mapping):
        return call
    function = call.get("function")
    if not isinstance(function, Mapping):
        return dict(call)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError):  # else it is compared as text
            arguments = json.loads(arguments)
    return {
        "id": call.get("id"),
        "name": function.get("name"),
        "arguments": arguments or {},
    }
