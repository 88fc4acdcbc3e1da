"""What can be typed instead of a message."""

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
    QUESTIONS = "questions"
    ANSWER = "answer"
    QUIT = "quit"


_USES = {
    Command.HELP: ("", "this list"),
    Command.SESSIONS: ("", "your sessions, the newest first"),
    Command.OPEN: ("ID", "switch to another session"),
    Command.PAUSE: ("", "pause the session where it is (or Ctrl-C)"),
    Command.RESUME: ("", "continue it"),
    Command.CANCEL: ("", "end it"),
    Command.TRANSCRIPT: ("", "all messages, calls and results in full"),
    Command.SAY: ("TEXT", "send a message that begins with /, or while a question is open"),
    Command.QUESTIONS: ("", "what waits for a human, in your sessions or for you as an operator"),
    Command.ANSWER: ("N", "show one of them, and answer it with the next line"),
    Command.QUIT: ("", "leave; the session continues on the server (or Ctrl-D)"),
}
_NEEDS_ARGUMENT = frozenset({Command.OPEN, Command.SAY, Command.ANSWER})


def read_order(line: str) -> tuple[Command, str] | None:
    """The command of a line, and its argument; None for a message.

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
    argument = rest.strip()
    if command in _NEEDS_ARGUMENT and not argument:
        raise ValueError(f"/{command} needs more: /{command} {_USES[command][0]}")
    return command, argument


def help_text() -> str:
    """All commands."""
    uses = [(f"/{command} {argument}", text) for command, (argument, text) in _USES.items()]
    lines = [f"{use:<12} {text}" for use, text in uses]
    return "\n".join(["Type a message. While the model writes, a message steers it.", *lines])
