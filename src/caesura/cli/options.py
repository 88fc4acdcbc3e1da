"""How settings become options."""

import re
from typing import Annotated, TypeVar

from cyclopts import Parameter
from pydantic import BaseModel, create_model

from caesura.cli.pages import shown_default

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
