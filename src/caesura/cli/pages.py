"""What help pages look like."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from caesura.units import format_size

_MIB, _GB = 2**20, 10**9


def examples(*commands: str) -> str:
    """The end of a command's page: command lines to copy."""
    return "\n".join(["Examples:", "", "```text", *commands, "```"])


def shown_default(value: Any) -> str | None:
    """A default as it would be typed; None where the help's own words say it."""
    match value:
        case None | False | ():
            return None
        case Mapping() if not value:
            return None
        case Enum():
            return str(value.value)
        case tuple():
            return ",".join(str(shown_default(item)) for item in value)
        case float():
            return f"{value:g}"
        case int() if value >= _MIB and value % _MIB == 0:
            return format_size(value).replace(" ", "")
        case int() if value >= _GB and value % _GB == 0:
            return f"{value // _GB}GB"
        case _:
            return str(value)
