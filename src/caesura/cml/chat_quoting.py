"""Quoting of markers in chat messages and tool definitions, wherever they are data."""

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
    """A chat message in OpenAI's form, with all markers in it quoted.

    Messages of the operator stay as they are. Messages of the model become what the model wrote:
    they were unquoted on their way out.
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
    """The value with all markers in its texts quoted, also in names."""
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
    """The parts of a message's content, quoted as one text, since templates may join them."""
    quoted: list[Any] = []
    before = ""

    def behind(text: str) -> str:
        nonlocal before
        escaped = escape(text, vocabulary, before)
        # Only whether a marker is open matters, not the quotes in it, of which there may be many.
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
    r"""The JSON with all markers in its texts quoted, also those spelled with `\u005b`.

    Chat templates parse it, so such escapes are resolved before markers are looked for.
    """
    try:
        text = json.dumps(json.loads(text), ensure_ascii=False)
    except RecursionError:
        return "{}"  # nested too deep to be read, here or in a template
    except ValueError:
        pass  # not JSON, so no template parses it either
    return escape(text, vocabulary)
