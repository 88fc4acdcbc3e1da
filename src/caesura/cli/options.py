"""How settings become options, and what is shown of a command line."""

import re
import shlex
import sys
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter
from pydantic import BaseModel, create_model

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


_Settings = TypeVar("_Settings", bound=BaseModel)

_UNITS = re.compile(r"_(bytes|seconds|path|bytes_per_second)$")
_NAMES = {"output_dir": "out", "policy_options": "policy-option"}


def option_name(field: str) -> str:
    """The option of a setting, `--kv-memory` for `kv_memory_bytes` for instance."""
    return _NAMES.get(field) or _UNITS.sub("", field).lower().replace("_", "-")


DEFAULTS = Parameter(
    name_transform=option_name,
    show_default=shown_default,
    show_choices=False,  # they are members of enumerations, and users type values
    negative_iterable=(),
    allow_repeating=True,  # the last one counts
)
"""Of all options."""

FLATTENED = Parameter("*")
"""Annotates settings: each of their fields is an option."""


def with_parameters(form: type[_Settings], **parameters: Parameter) -> type[_Settings]:
    """The same settings, with how some of their options are called and look."""
    fields = {
        name: (Annotated[form.model_fields[name].rebuild_annotation(), parameter], field)
        for name, parameter in parameters.items()
        if (field := form.model_fields[name])
    }
    made: type[_Settings] = create_model(form.__name__, __base__=form, **fields)  # type: ignore[call-overload]
    return made


_KEY = re.compile(r"--(?:api[-_]key|database)(=|$)")


def command_line() -> str:
    """What was typed, without API keys and passwords."""
    shown: list[str] = []
    for argument in ["caesura", *sys.argv[1:]]:
        option = _KEY.match(argument)
        if shown and (before := _KEY.match(shown[-1])) and not before[1]:
            argument = "..."
        elif option and option[1]:
            argument = f"{option[0]}..."
        shown.append(argument)
    return shlex.join(shown)
