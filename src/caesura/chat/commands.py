"""What can be typed instead of a message."""

from dataclasses import dataclass
from enum import StrEnum


class Command(StrEnum):
    """A command, by its name."""

    HELP = "help"
    SESSIONS = "sessions"
    OPEN = "open"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    TRANSCRIPT = "transcript"
    SAY = "say"
    QUIT = "quit"


_USES = {
    Command.HELP: ("", "this list"),
    Command.SESSIONS: ("", "your sessions, the newest first"),
    Command.OPEN: ("ID", "go on with another session"),
    Command.PAUSE: ("", "stop the session where it is (Ctrl-C too)"),
    Command.RESUME: ("", "let it go on"),
    Command.CANCEL: ("", "end it"),
    Command.TRANSCRIPT: ("", "all messages, calls and results, uncut"),
    Command.SAY: ("TEXT", "a message that begins with /, or beside a question"),
    Command.QUIT: ("", "leave; the session goes on on the server (Ctrl-D too)"),
}
_NEEDS_ARGUMENT = frozenset({Command.OPEN, Command.SAY})


@dataclass(frozen=True, slots=True)
class Order:
    """A command with what follows it.

    Attributes:
        command: which.
        argument: the rest of the line.
    """

    command: Command
    argument: str


def read_order(line: str) -> Order | None:
    """The command of a line; None for a message.

    Raises:
        ValueError: there is no such command, or it lacks its argument.
    """
    if not line.startswith("/"):
        return None
    name, _, rest = line[1:].partition(" ")
    try:
        command = Command(name)
    except ValueError:
        raise ValueError(f"there is no /{name}; /help shows all commands") from None
    order = Order(command, rest.strip())
    if command in _NEEDS_ARGUMENT and not order.argument:
        raise ValueError(f"/{command} needs more: /{command} {_USES[command][0]}")
    return order


def help_text() -> str:
    """All commands."""
    uses = {f"/{command} {argument}": text for command, (argument, text) in _USES.items()}
    lines = [f"{use:<12} {text}" for use, text in uses.items()]
    typed = "Type a message. While the model writes, what you type steers it."
    return "\n".join([typed, *lines])
