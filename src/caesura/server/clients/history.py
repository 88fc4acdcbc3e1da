"""Whether two histories of messages are the same, by a digest of each message.

Two messages are the same if a chat template cannot be meant to tell them apart. Only what vLLM
hands to the template counts: a client may add fields of its own, or hints such as `cache_control`.
Nor does the white space around what an assistant says or thinks count, or in the JSON of a tool
call's arguments; and no text is the same however it is written. Reasoning is digested apart, since
most clients do not send it back.
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
_ALWAYS = ("role", "content", "name", "task")
_BY_ROLE = {
    "assistant": ("tool_calls",),
    "tool": ("tool_call_id",),
    "developer": ("tools",),
}
_TEXTS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
"""The field that has the text, by the type of a part."""
_HINTS = frozenset({"cache_control"})
# A line that changes with each request of a client; vLLM takes it out of system messages.
_BILLING = "x-anthropic-billing-header"


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
    role = message.get("role")
    of_assistant = role == "assistant"
    reasoning = next((message[name] for name in _REASONING if message.get(name)), None)
    if isinstance(reasoning, str):
        reasoning = reasoning.strip()
    body = {name: message.get(name) for name in (*_ALWAYS, *_BY_ROLE.get(str(role), ()))}
    body["content"] = _content(message.get("content"), role)
    if "tool_calls" in body:
        body["tool_calls"] = [_tool_call(call) for call in _items(body["tool_calls"])]
    return MessageDigest(
        body=_digest_of({name: value for name, value in body.items() if value not in _EMPTY}),
        reasoning=_digest_of(reasoning) if reasoning else None,
        of_assistant=of_assistant,
    )


def identity(*parts: object) -> bytes:
    """A digest of all that a rendering depends on, except the messages."""
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


def _content(content: object, role: object) -> object:
    """A text, or the list of parts if there are several or other parts than text."""
    parts = [content] if isinstance(content, str) else [_part(part) for part in _items(content)]
    if role == "system":
        parts = [part for part in map(_without_billing, parts) if part is not None]
    if len(parts) > 1 or not all(isinstance(part, str) for part in parts):
        return parts
    text = str(parts[0]) if parts else ""
    return text.strip() if role == "assistant" else text


def _part(part: object) -> object:
    if not isinstance(part, Mapping):
        return part
    text = part.get(_TEXTS.get(str(part.get("type")), ""))
    if isinstance(text, str):
        return text
    return {name: value for name, value in part.items() if name not in _HINTS}


def _without_billing(part: object) -> object:
    """The part as vLLM renders it; None where it renders nothing."""
    if isinstance(part, str) and part.startswith(_BILLING):
        return part.partition("\n")[2] or None
    return part


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, Iterable) and not isinstance(value, str) else ()


def _tool_call(call: object) -> object:
    """The call with its arguments as an object, if they are one."""
    if not isinstance(call, Mapping):
        return call
    function = call.get("function")
    if not isinstance(function, Mapping):
        return dict(call)
    arguments = function.get("arguments") or {}
    with suppress(ValueError, RecursionError):  # else they are compared as they are written
        arguments = _canonical(json.loads(arguments) if isinstance(arguments, str) else arguments)
    return {"id": call.get("id"), "name": function.get("name"), "arguments": arguments}


def _canonical(value: object) -> str:
    """One text for all spellings of an object; no arguments are an empty one."""
    return json.dumps(value or {}, sort_keys=True, separators=(",", ":"))
