"""Which commands there are. Each is imported when it is called, and not to be listed."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version

from cyclopts import App, Group

from caesura.cli.options import DEFAULTS
from caesura.console import plain_console

_COMPLETION = "--install-completion"
_SERVING = Group("Serving", sort_key=0)
_LABORATORY = Group(
    "Laboratory", sort_key=1, help='They need more packages: pip install "caesura[lab]"'
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command.

    Attributes:
        name: what is typed; also its module in this package, whose `app` it is.
        summary: what it does, in the list of commands.
        group: where it is listed.
    """

    name: str
    summary: str
    group: Group


COMMANDS = (
    Command("serve", "Serve a model with pauses: vLLM's server and Caesura's sessions.", _SERVING),
    Command("chat", "Talk to a session of a server, in the terminal.", _SERVING),
    Command("models", "Get a small real model without a model hub.", _SERVING),
    Command("keys", "Make API keys with names.", _SERVING),
    Command("doctor", "Say what is installed, what it can do, and what is missing.", _SERVING),
    Command("demo", "Show what Caesura is for, on this machine.", _LABORATORY),
    Command("bench", "Compare policies on the real engine; or modes of calling.", _LABORATORY),
    Command("simulate", "Compare policies in virtual time.", _LABORATORY),
    Command("calibrate", "Measure what iterations and copies cost here.", _LABORATORY),
    Command("train", "Train a model to call functions while it writes.", _LABORATORY),
)


def application(words: Sequence[str] = (), *, whole: bool = False) -> App:
    """The application, with the command that the words call for; of the others the names only.

    Args:
        words: what follows `caesura` on the command line.
        whole: all commands are complete.
    """
    called = next(iter(words), None)
    whole = whole or called == _COMPLETION
    app = App(
        "caesura",
        help="LLM serving in which a tool call is a pause, not the end of a request: a plug-in "
        "for vLLM.\n\nTo try it without a download, start `caesura serve` in one terminal and "
        "`caesura chat` in another.",
        help_epilogue="`caesura COMMAND --help` says more about each.",
        help_format="markdown",
        console=plain_console(),
        version=version("caesura"),
        default_parameter=DEFAULTS,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for command in COMMANDS:
        if whole or command.name == called:
            complete: App = import_module(f"caesura.cli.{command.name}").app
            complete.group = command.group
            app.command(complete)
        else:
            app.command(App(command.name, help=command.summary, group=command.group))
    app.register_install_completion_command(name=_COMPLETION)
    return app
