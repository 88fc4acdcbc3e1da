"""A grammar by which a model can only begin calls that are valid, for `Sampling.grammar`.

Text stays free. A frame is `[CALL] id [HEAD] body [END]`, the same without an id, or
`[TRAP] [END]`, and a body fits the JSON schema of one of the tools. Interrupts are not in it.

It is written in llguidance's dialect of Lark, which names special tokens by their ids, so that
no text can be taken for a marker (https://github.com/guidance-ai/llguidance, docs/syntax.md).
Markers must be special tokens of the tokenizer. vLLM uses the `guidance` backend for it.
"""

import json
from collections.abc import Mapping
from typing import Any

import llguidance

from caesura.cml import FrameRules
from caesura.errors import ConfigurationError

_DEFINITIONS = ("$defs", "definitions")
# At most one space between the parts of a body: a weak model could go on with them for ever.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}


def call_grammar(rules: FrameRules, tools: Mapping[str, Mapping[str, Any]]) -> str:
    """The grammar of one turn of a session with these tools.

    Args:
        rules: the tokens of the markers.
        tools: JSON schemas of the arguments, by the tools' names.

    Raises:
        ConfigurationError: there are no tools, or a schema cannot be enforced; says which.
    """
    if not tools:
        raise ConfigurationError("a grammar of calls needs tools")
    bodies = [_body(name, schema) for name, schema in tools.items()]
    names = [f"tool_{index}" for index in range(len(bodies))]
    lines = [
        # Where only one text can follow, the model may still write it in tokens of its own.
        '%llguidance {"no_forcing": true}',
        "start: TEXT? (frame TEXT?)*",
        f"frame: <[{rules.call}]> (ID <[{rules.head}]>)? body <[{rules.end}]>",
        f"  | <[{rules.trap}]> <[{rules.end}]>",
        f"body: {' | '.join(names)}",
        *(f"{name}: %json {body}" for name, body in zip(names, bodies, strict=True)),
        r"TEXT: /(.|\n)+/",
        "ID: /[A-Za-z][A-Za-z0-9_]{0,31}/",
    ]
    return "\n".join(lines) + "\n"


def _body(name: str, schema: Mapping[str, Any]) -> str:
    """The JSON schema of a tool's calls. References into the tool's definitions stay valid."""
    arguments = {key: value for key, value in schema.items() if key not in _DEFINITIONS}
    body = json.dumps(
        {
            "type": "object",
            "properties": {
                "name": {"const": name},
                "arguments": {"type": "object", **arguments},
            },
            "required": ["name", "arguments"] if schema.get("required") else ["name"],
            "additionalProperties": False,
            "x-guidance": _SPACING,
            **{key: schema[key] for key in _DEFINITIONS if key in schema},
        }
    )
    try:
        error = llguidance.LLMatcher.validate_grammar(
            llguidance.LLMatcher.grammar_from_json_schema(body)
        )
    except ValueError as invalid:
        error = str(invalid)
    if error:
        raise ConfigurationError(f"the arguments of tool {name!r} cannot be enforced: {error}")
    return body
