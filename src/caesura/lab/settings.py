"""Types for settings of the laboratory, which are the options of its commands, too.

`caesura.cli` makes an option of each field: its name without the unit, its help from the class's
docstring, its default and its check from the field.
"""

from typing import Annotated, TypeVar

from cyclopts import Parameter
from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat

from caesura.units import parse_size

_T = TypeVar("_T")

ENGINE = "Engine"
"""Panel of options: what runs, and with what memory."""

RESULTS = "Results"
"""Panel of options: where results go."""


def _split(value: object) -> object:
    """Parts of texts that are separated by commas; anything else stays as it is."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    parts: list[object] = []
    for item in value:
        parts += [part.strip() for part in item.split(",")] if isinstance(item, str) else [item]
    return [part for part in parts if part != ""]


def _distinct(values: tuple[_T, ...]) -> tuple[_T, ...]:
    if len(set(values)) != len(values):
        raise ValueError("a value is there twice")
    return values


Listed = Annotated[tuple[_T, ...], BeforeValidator(_split), Parameter(metavar="A,B,...")]
"""Values, also from a text with commas."""

Distinct = Annotated[Listed[_T], Field(min_length=1), AfterValidator(_distinct)]
"""At least one value, and none twice."""

ByteSize = Annotated[int, BeforeValidator(parse_size), Field(ge=0), Parameter(metavar="SIZE")]
"""Bytes, also from a text such as "32MiB"."""

PositiveFloat = Annotated[FiniteFloat, Field(gt=0)]
NonNegativeFloat = Annotated[FiniteFloat, Field(ge=0)]
