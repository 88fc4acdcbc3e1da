"""What went wrong on a command line, as a sentence for people."""

from collections.abc import Iterable

from cyclopts import CycloptsError
from cyclopts.argument import Argument
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from caesura.cli.extras import advice_for


def parse_error(error: CycloptsError) -> str:
    """What is wrong with the words of a command line."""
    if isinstance(error.__cause__, ValidationError):
        return settings_error(error.__cause__, error.argument)
    return str(error).removesuffix("\n")


def settings_error(error: ValidationError, argument: Argument | None = None) -> str:
    """Which settings do not fit, by their options, and why.

    Args:
        error: what the settings said.
        argument: the settings on the command line, whose children are the options.
    """
    names = {} if argument is None else {child.keys[-1]: child.name for child in argument.children}
    return "; ".join(_sentences(error.errors(), names))


def _sentences(errors: Iterable[ErrorDetails], names: dict[str, str]) -> Iterable[str]:
    for error in errors:
        reason = error["msg"].removeprefix("Value error, ")
        field, *_ = (*error["loc"], "")
        name = names.get(str(field), str(field))
        given = error["input"]
        if not name:  # it is about several of them
            yield reason
        elif isinstance(given, str | int | float):
            yield f"{name} {given}: {reason}"
        else:
            yield f"{name}: {reason}"


def missing_package(error: ModuleNotFoundError) -> str | None:
    """How to install what could not be imported; None if no extra of ours has it."""
    return advice_for((error.name or "").partition(".")[0])
