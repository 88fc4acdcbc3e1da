"""Markers in chat messages and tool definitions: quoted wherever they are told as data."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from caesura.cml.escaping import escape, open_marker
from caesura.cml.markers import DEFAULT_VOCABULARY, ESCAPE, Vocabulary

_OPERATOR_ROLES = ("system", "developer")
_PART_TEXTS = ("text", "refusal")


def quoted_message(
    message: Mapping[str, Any], vocabulary: Vocabulary = DEFAULT_VOCABULARY
) -> dict[str, Any]:
    """A chat message, as OpenAI writes it, with all markers in it quoted.

    What the operator says stays as it is. What the model wrote was unquoted on its way out, and
    is as the model wrote it again.
    """
    if message.get("role") in _OPERATOR_ROLES:
        return dict(message)
    quoted: dict[str, Any] = quoted_value(message, vocabulary)
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        quoted["content"] = _parts(content, vocabulary)
    calls = message.get("tool_calls")
    if isinstance(calls, Sequence) and not isinstance(calls, str):
        quoted["tool_calls"] = [_call(call, vocabulary) for call in calls]
    return quoted


def quoted_value(value: Any, vocabulary: Vocabulary = DEFAULT_VOCABULARY) -> Any:
    """The value with all markers in its texts quoted; names are texts, too."""
    match value:
        case str():
            return escape(value, vocabulary)
        case Mapping():
            return {
                quoted_value(name, vocabulary): quoted_value(item, vocabulary)
                for name, item in value.items()
            }
        case Sequence() if not isinstance(value, bytes | bytearray):
            return [quoted_value(item, vocabulary) for item in value]
    return value


def _parts(parts: Sequence[Any], vocabulary: Vocabulary) -> list[Any]:
    """The parts of a content. Templates may join their texts, so no marker begins in one of them
    and ends in another."""
    quoted: list[Any] = []
    before = ""

    def behind(text: str) -> str:
        nonlocal before
        escaped = escape(text, vocabulary, before)
        # How often it is quoted does not matter, and may be any number of times.
        before = open_marker(before + escaped, vocabulary).replace(ESCAPE, "")
        return escaped

    for part in parts:
        if isinstance(part, str):
            quoted.append(behind(part))
            continue
        quoted.append(quoted_value(part, vocabulary))
        for name in _PART_TEXTS:
            if isinstance(part, Mapping) and isinstance(text := part.get(name), str):
                quoted[-1][name] = behind(text)
    return quoted


def _call(call: Any, vocabulary: Vocabulary) -> Any:
    quoted = quoted_value(call, vocabulary)
    function = call.get("function") if isinstance(call, Mapping) else None
    if isinstance(function, Mapping) and isinstance(arguments := function.get("arguments"), str):
        quoted["function"]["arguments"] = _quoted_json(arguments, vocabulary)
    return quoted


def _quoted_json(text: str, vocabulary: Vocabulary) -> str:
    r"""JSON that no marker comes out of: templates are given what it says, not how.

    `\u005b` is a bracket, too. Written without such escapes, JSON has each marker as it is.
    """
    try:
        text = json.dumps(json.loads(text), ensure_ascii=False)
    except RecursionError:
        return "{}"  # as of arguments that are no JSON: what they say is not known here
    except ValueError:
        pass  # no JSON: no template is given it parsed
    return escape(text, vocabulary)
