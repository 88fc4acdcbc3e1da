"""Quoting of markers in chat messages and tool definitions, wherever they are data."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from caesura.cml.escaping import escape, open_marker
from caesura.cml.markers import ALL_SYMBOLS, ESCAPE, Symbols

_OPERATOR_ROLES = ("system", "developer")
_PART_TEXTS = ("text", "refusal")


def quoted_message(message: Mapping[str, Any], symbols: Symbols = ALL_SYMBOLS) -> dict[str, Any]:
    """A chat message in OpenAI's form, with all markers in it quoted.

    Messages of the operator stay as they are. Messages of the model become what the model wrote:
    they were unquoted on their way out.
    """
    if message.get("role") in _OPERATOR_ROLES:
        return dict(message)
    quoted: dict[str, Any] = quoted_value(message, symbols)
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        quoted["content"] = _parts(content, symbols)
    calls = message.get("tool_calls")
    if isinstance(calls, Sequence) and not isinstance(calls, str):
        quoted["tool_calls"] = [_call(call, symbols) for call in calls]
    return quoted


def quoted_value(value: Any, symbols: Symbols = ALL_SYMBOLS) -> Any:
    """The value with all markers in its texts quoted, also in names."""
    match value:
        case str():
            return escape(value, symbols)
        case Mapping():
            return {
                quoted_value(name, symbols): quoted_value(item, symbols)
                for name, item in value.items()
            }
        case Sequence() if not isinstance(value, bytes | bytearray):
            return [quoted_value(item, symbols) for item in value]
    return value


def _parts(parts: Sequence[Any], symbols: Symbols) -> list[Any]:
    """The parts of a message's content, quoted as one text, since templates may join them."""
    quoted: list[Any] = []
    before = ""

    def behind(text: str) -> str:
        nonlocal before
        escaped = escape(text, symbols, before)
        # Only whether a marker is open matters, not the quotes in it, of which there may be many.
        before = open_marker(before + escaped, symbols).replace(ESCAPE, "")
        return escaped

    for part in parts:
        if isinstance(part, str):
            quoted.append(behind(part))
            continue
        quoted.append(quoted_value(part, symbols))
        for name in _PART_TEXTS:
            if isinstance(part, Mapping) and isinstance(text := part.get(name), str):
                quoted[-1][name] = behind(text)
    return quoted


def _call(call: Any, symbols: Symbols) -> Any:
    quoted = quoted_value(call, symbols)
    function = call.get("function") if isinstance(call, Mapping) else None
    if isinstance(function, Mapping) and isinstance(arguments := function.get("arguments"), str):
        quoted["function"]["arguments"] = _quoted_json(arguments, symbols)
    return quoted


def _quoted_json(text: str, symbols: Symbols) -> str:
    r"""The JSON with all markers in its texts quoted, also those spelled with `\u005b`.

    Chat templates parse it, so such escapes are resolved before markers are looked for.
    """
    try:
        text = json.dumps(json.loads(text), ensure_ascii=False)
    except RecursionError:
        return "{}"  # nested too deep to be read, here or in a template
    except ValueError:
        pass  # not JSON, so no template parses it either
    return escape(text, symbols)
