"""From the words of a command line to a command, and from errors to one sentence each."""

import sys
from collections.abc import Iterable, Sequence

from cyclopts import CycloptsError
from cyclopts.argument import Argument
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from rich.text import Text

from caesura.cli.commands import application
from caesura.cli.extras import advice_for
from caesura.cli.spellings import modern
from caesura.console import plain_console, printable
from caesura.errors import CaesuraError, ConfigurationError

FAILED = 2


def main() -> None:
    """Entry point: errors that a user can cause are one sentence, not a traceback."""
    try:
        status = run(sys.argv[1:])
    except ValidationError as error:
        status = _fail(_settings_error(error))
    except (CaesuraError, ValueError, FileNotFoundError) as error:
        status = _fail(str(error))
    except ModuleNotFoundError as error:
        advice = advice_for((error.name or "").partition(".")[0])
        if advice is None:
            raise
        status = _fail(advice)
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def run(words: Sequence[str]) -> int:
    """Run a command.

    Args:
        words: what follows `caesura` on the command line.

    Returns:
        The exit status.

    Raises:
        ConfigurationError: the words are no command of ours, or a setting does not fit.
        CaesuraError: the command could not do it; says what to do.
        ValueError: likewise.
    """
    command = modern(words)
    for note in command.notes:
        _say("note:", "yellow", note)
    app = application(command.words)
    try:
        status = app(command.words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise ConfigurationError(_parse_error(error)) from error
    return status if isinstance(status, int) else 0


def _fail(message: str) -> int:
    _say("error:", "bold red", message)
    return FAILED


def _say(word: str, style: str, message: str) -> None:
    """A line on stderr; what users and other programs wrote is printed as it is."""
    line = Text.assemble((word, style), " ", printable(message))
    plain_console(stderr=True).print(line, soft_wrap=True)


def _parse_error(error: CycloptsError) -> str:
    if isinstance(error.__cause__, ValidationError):
        return _settings_error(error.__cause__, error.argument)
    return str(error).removesuffix("\n")


def _settings_error(error: ValidationError, argument: Argument | None = None) -> str:
    """Which settings do not fit, by their options (those of `argument`), and why."""
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
