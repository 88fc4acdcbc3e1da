"""Older and short spellings of command lines, in today's spelling."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from caesura.errors import ConfigurationError

_NUMBER = "--policy-option"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Words as the commands take them.

    Attributes:
        words: what follows `caesura`.
        notes: for the user: corrected spellings, for example.
    """

    words: tuple[str, ...]
    notes: tuple[str, ...] = ()


class _Moved(NamedTuple):
    """A mode that was an option of `command`, and is the command `now`."""

    command: str
    option: str
    now: str
    takes_value: bool  # the new command's first word


_MOVED = (
    _Moved("bench", "--async", "calls", takes_value=False),
    _Moved("calibrate", "--from-trace", "trace", takes_value=True),
    _Moved("train", "--evaluate", "evaluate", takes_value=True),
)


def modern(words: Sequence[str]) -> CommandLine:
    """A command line in today's spelling.

    Raises:
        ConfigurationError: an option lacks its value.
    """
    line = tuple(_named_numbers(words))
    for moved in _MOVED:
        if line[:1] == (moved.command,) and (found := _moved(line, moved)) is not None:
            value = " ..." if moved.takes_value else ""
            note = (
                f"`caesura {moved.command} {moved.option}{value}` is now called "
                f"`caesura {moved.command} {moved.now}{value}`"
            )
            return CommandLine(found, (note,))
    return CommandLine(line)


def _moved(line: tuple[str, ...], moved: _Moved) -> tuple[str, ...] | None:
    for index, word in enumerate(line):
        name, has_value, value = word.partition("=")
        if name != moved.option:
            continue
        rest = line[index + 1 :]
        if moved.takes_value and not has_value:
            if not rest:
                raise ConfigurationError(f"{moved.option} needs a value")
            value, rest = rest[0], rest[1:]
        values = (value,) if moved.takes_value else ()
        return (moved.command, moved.now, *values, *line[1:index], *rest)
    return None


def _named_numbers(words: Sequence[str]) -> list[str]:
    """`--policy-option NAME=NUMBER`, with the name where the parser looks for it."""
    result: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == _NUMBER:
            pair = next(rest, "")
        elif word.startswith(f"{_NUMBER}="):
            pair = word.removeprefix(f"{_NUMBER}=")
        else:
            result.append(word)
            continue
        name, separator, number = (part.strip() for part in pair.partition("="))
        if not separator:
            raise ConfigurationError(f"{_NUMBER} {pair!r} is not of the form NAME=NUMBER")
        result.append(f"{_NUMBER}.{name}={number}")
    return result
