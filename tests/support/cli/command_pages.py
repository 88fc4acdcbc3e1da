"""The commands of the command line, their options and their help pages."""

import io
from collections.abc import Iterator

from cyclopts import App
from cyclopts.argument import Argument
from rich.console import Console

from caesura.cli.commands import COMMANDS, application
from caesura.cli.options import DEFAULTS

WIDE = 1000


def pages() -> list[tuple[str, ...]]:
    """The words of each command."""
    app = application(whole=True)
    return [page for command in COMMANDS for page in _pages((command.name,), app[command.name])]


def options_of(*words: str) -> list[Argument]:
    """What a command takes; of a longer command line the first words count."""
    app = application(words)
    for word in words:
        if word.startswith("-") or word not in app:
            break
        app = app[word]
    if app.default_command is None:  # a group of commands
        return []
    found = app.assemble_argument_collection(default_parameter=DEFAULTS, parse_docstring=True)
    return [argument for argument in found if argument.parse and not argument.children]


def help_page(*words: str, width: int = WIDE) -> str:
    """What `--help` prints; so wide that no text of an option is broken."""
    printed = Console(file=io.StringIO(), width=width)
    application(words).help_print(words, console=printed)
    assert isinstance(printed.file, io.StringIO)
    return printed.file.getvalue()


def _pages(words: tuple[str, ...], app: App) -> Iterator[tuple[str, ...]]:
    yield words
    for name in app:
        if not name.startswith("-"):
            yield from _pages((*words, name), app[name])
