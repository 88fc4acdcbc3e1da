"""JSON that a model wrote, read so that no two readers take it for different values."""

import json
import math
import re

from caesura.cml.frames import JsonObject, JsonValue, Limits, json_text

MOST_LEVELS = Limits().nesting

# A string without an end is taken as one, so that no character is looked at twice.
_NESTING = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


class UnsoundJson(ValueError):
    """What is wrong with a text, for its author; the message does not repeat the text."""


def read_json(text: str, most_levels: int = MOST_LEVELS) -> JsonValue:
    """The value of a text; takes time that is linear in its length.

    Stricter than `json`: arrays and objects are nested at most `most_levels` deep, no name is
    given twice, every number is finite as a double, and all text is Unicode.

    Raises:
        UnsoundJson: it is none of that.
    """
    _require_levels(text, most_levels)
    try:
        value: JsonValue = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
        json_text(value).encode()
    except json.JSONDecodeError as error:
        raise UnsoundJson(f"{error.msg} at character {error.pos}") from None
    except UnicodeEncodeError:
        raise UnsoundJson("a text has half of a surrogate pair, which is not Unicode") from None
    return value


def _require_levels(text: str, most: int) -> None:
    levels = 0
    for found in _NESTING.finditer(text):
        if found[0] in "[{":
            levels += 1
            if levels > most:
                raise UnsoundJson(f"nested deeper than {most} levels")
        elif found[0] in "]}":
            levels -= 1


def _object(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise UnsoundJson("a name is given twice in one object")
    return members


def _refuse_constant(constant: str) -> None:
    raise UnsoundJson(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise UnsoundJson("a number is too large")
    return number


def _integer(digits: str) -> int:
    _finite(digits)  # before `int`, whose time is not linear and whose length is limited
    return int(digits)
