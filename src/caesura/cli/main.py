"""From the words of a command line to a command, and from errors to one sentence each."""

import sys
from collections.abc import Sequence

from cyclopts import CycloptsError
from pydantic import ValidationError
from rich.text import Text

from caesura.cli.commands import application
from caesura.cli.errors import missing_package, parse_error, settings_error
from caesura.cli.spellings import modern
from caesura.console import plain_console, printable
from caesura.errors import CaesuraError, ConfigurationError

FAILED = 2


def main() -> None:
    """Entry point: errors that a user can cause are one sentence, not a traceback."""
    try:
        status = run(sys.argv[1:])
    except ValidationError as error:
        status = _fail(settings_error(error))
    except (CaesuraError, ValueError, FileNotFoundError) as error:
        status = _fail(str(error))
    except ModuleNotFoundError as error:
        advice = missing_package(error)
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
        raise ConfigurationError(parse_error(error)) from error
    return status if isinstance(status, int) else 0


def _fail(message: str) -> int:
    _say("error:", "bold red", message)
    return FAILED


def _say(word: str, style: str, message: str) -> None:
    """A line on stderr; what users and other programs wrote is printed as it is."""
    line = Text.assemble((word, style), " ", printable(message))
    plain_console(stderr=True).print(line, soft_wrap=True)
