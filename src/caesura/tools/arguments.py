"""The arguments of a call: read once, and shown as they were read."""

import json
from collections.abc import Mapping

from pydantic import JsonValue

from caesura.cml.body import read_json
from caesura.tools.failure import InvalidArguments

Arguments = dict[str, JsonValue]

_LONGEST_CHARACTERS = 2**20
_DEEPEST_LEVELS = 64


def parse_arguments(text: str) -> Arguments:
    """The arguments of a call from the JSON that a model wrote.

    Nothing in it may mean two things: whoever approves a call reads the value that the tool gets.

    Raises:
        InvalidArguments: it is not a JSON object.
    """
    if len(text) > _LONGEST_CHARACTERS:
        raise InvalidArguments(f"the arguments are longer than {_LONGEST_CHARACTERS} characters")
    try:
        arguments = read_json(text.strip() or "{}", _DEEPEST_LEVELS)
    except json.JSONDecodeError as error:
        raise InvalidArguments(
            f"the arguments are not JSON: {error.msg} at character {error.pos}"
        ) from None
    except ValueError as error:
        raise InvalidArguments(f"the arguments cannot be used: {error}") from None
    if not isinstance(arguments, dict):
        raise InvalidArguments("the arguments must be a JSON object")
    return arguments


def shown_arguments(arguments: Mapping[str, JsonValue]) -> str:
    """Arguments for a human who decides on a call: JSON, every digit included, a value a line."""
    return json.dumps(arguments, indent=2, ensure_ascii=False)
