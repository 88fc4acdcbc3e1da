"""What requests may define: conversations, tools, and schemas that become grammars.

vLLM reads all of it on its event loop, renders tools by a chat template, and makes a grammar of a
schema: while it checks one its loop stands still, and compiling one takes processors for seconds.
That cannot be seen by the size: twenty characters of a pattern can be a million states. So the
effort is counted here, in a body that has been parsed and whose values are few (`BodyScan`).
"""

import re
from collections.abc import Iterator
from typing import Any

from caesura.server.errors import ApiError

MOST_MESSAGES = 2000
"""Messages, or other items, of one conversation."""
MOST_TOOLS = 512
MOST_PARTS = 20_000
"""Values in all definitions of one request."""
MOST_GRAMMAR_PARTS = 4000
"""The same where a grammar is made of them."""
MOST_CHARACTERS = 2**19
"""Of all texts in the definitions of one request, names included."""
MOST_PROPERTIES = 1000
"""Properties of one object: each may be followed by each that comes later."""
MOST_SPELLED = 20_000
"""Characters that the grammars of one request spell out, such as those of enumerations."""
MOST_WRITTEN_OUT = 1000
"""Characters of patterns and grammars in one request, with all repetitions written out."""

_CONVERSATIONS = frozenset({"messages", "input", "system", "instructions"})
_DEFINITIONS = frozenset(
    {
        "functions",
        "output_config",
        "output_format",
        "response_format",
        "structured_outputs",
        "text",
        "tools",
    }
)
_TOOLS = frozenset({"functions", "tools"})
# What they say in words is in no grammar.
_WORDS = frozenset({"$comment", "default", "description", "examples", "title"})
# Where these are, there are pictures and sounds in text.
_MEDIA = frozenset({"data", "file_data", "url", "image_url", "audio_url", "video_url"})
_PATTERNS = frozenset({"grammar", "pattern", "regex"})
_ATOMS = re.compile(r"\\.|\[(?:\\.|[^\]\\])*+\]?|\{(\d{1,9}),?(\d{0,9})\}|.", re.DOTALL)


def require_modest(body: Any, most_characters: int | None = None) -> None:
    """See that vLLM does not take long for a request.

    Args:
        body: of the request, parsed.
        most_characters: that can fit the model's context; None for any.

    Raises:
        ApiError: it does.
    """
    if not isinstance(body, dict):
        return
    for name, value in body.items():
        if name in _DEFINITIONS and not isinstance(value, str):
            is_grammar = name not in _TOOLS or _must_fit(body, value)
            most_parts = MOST_GRAMMAR_PARTS if is_grammar else MOST_PARTS
            _require_modest_definitions(name, value, most_parts)
        elif name in _CONVERSATIONS:
            _require_conversation(name, value, most_characters)
        elif most_characters is not None:
            for text in _texts(value):
                _require_fitting(name, len(text), most_characters)


def _require_conversation(name: str, value: Any, most_characters: int | None) -> None:
    """One conversation, which is read as a whole; texts in a list may be as many requests."""
    is_one = not isinstance(value, list) or any(isinstance(each, dict) for each in value)
    if is_one and isinstance(value, list) and len(value) > MOST_MESSAGES:
        raise _too_complex(name, f"more than {MOST_MESSAGES:,} messages")
    if most_characters is not None:
        lengths = [len(text) for text in _texts(value)]
        _require_fitting(name, (sum if is_one else max)([0, *lengths]), most_characters)


def _require_fitting(name: str, characters: int, most: int) -> None:
    if characters > most:
        raise ApiError(
            400,
            f"{name}: {characters:,} characters are more than fit the model's context, whatever "
            "they say",
            param=name,
            code="context_length_exceeded",
        )


def _texts(value: Any) -> Iterator[str]:
    """All texts but pictures and sounds."""
    rest = [value]
    while rest:
        match rest.pop():
            case str() as text:
                yield text
            case list() as items:
                rest += items
            case dict() as items:
                rest += [item for name, item in items.items() if name not in _MEDIA]


def _must_fit(body: dict[str, Any], tools: Any) -> bool:
    """Whether calls must fit the definitions of tools; else the model just reads them."""
    choices = (body.get("tool_choice"), body.get("function_call"))
    is_forced = any(choice not in (None, "auto", "none") for choice in choices)
    return is_forced or any(key == "strict" and part is True for key, part in _parts(tools))


def _require_modest_definitions(name: str, value: Any, most_parts: int) -> None:
    if isinstance(value, list) and len(value) > MOST_TOOLS:
        raise _too_complex(name, f"more than {MOST_TOOLS} definitions")
    characters = spelled = written_out = 0
    for parts, (key, part) in enumerate(_parts(value), 1):
        if isinstance(part, dict) and len(part) > MOST_PROPERTIES:
            raise _too_complex(name, f"more than {MOST_PROPERTIES:,} names in one object")
        text = part if isinstance(part, str) else ""
        characters += len(key) + len(text)
        spelled += len(text) if key not in _WORDS else 0
        written_out += _written_out(text) if key in _PATTERNS else 0
        for count, most, what in (
            (parts, most_parts, "values"),
            (characters, MOST_CHARACTERS, "characters"),
            (spelled, MOST_SPELLED, "characters in values to choose from"),
            (written_out, MOST_WRITTEN_OUT, "characters in patterns with all repetitions"),
        ):
            if count > most:
                raise _too_complex(name, f"more than {most:,} {what}")


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Each value in a value, with the nearest name above it."""
    rest: list[tuple[str, Any]] = [("", value)]
    while rest:
        key, part = rest.pop()
        yield key, part
        if isinstance(part, dict):
            rest += part.items()
        elif isinstance(part, list):
            rest += [(key, item) for item in part]


def _written_out(pattern: str) -> int:
    """How many characters a regular expression has, with all its repetitions written out."""
    total, last, groups = 0, 0, []
    for atom in _ATOMS.finditer(pattern):
        if atom[0] == "(":
            groups.append(total)
            last = 0
        elif atom[0] == ")" and groups:
            last = total - groups.pop()
        elif atom[1]:
            times = max(int(atom[1]), int(atom[2] or 0), 1)
            total += last * (times - 1)
            last *= times
        else:
            total, last = total + 1, 1
        if total > MOST_WRITTEN_OUT:
            break
    return total


def _too_complex(name: str, what: str) -> ApiError:
    return ApiError(400, f"{name} has {what}", param=name, code="body_too_complex")
