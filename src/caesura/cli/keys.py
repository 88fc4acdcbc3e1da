"""`caesura keys`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from caesura.cli.options import examples

app = App(
    "keys",
    help="API keys with names: who may use the server, and which of its tools.",
    help_epilogue=examples(
        "caesura keys add anna --config caesura.toml --tools search,ask",
        "caesura keys add operations --config caesura.toml --may-approve",
    ),
)


@app.command
def add(
    name: str,
    /,
    *,
    config: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    owner: str | None = None,
    tools: Annotated[str, Parameter(metavar="A,B,...")] = "all",
    may_approve: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Make an API key: it is shown once, and the configuration file gets its hash.

    Args:
        name: What it is called, in the configuration and where its answers are written down.
        config: The file of `caesura serve --config`, which gets the table of the key. Without it
            the table is printed.
        owner: Whose sessions it makes, if other keys are to see them.
        tools: The tools that its sessions may have.
        may_approve: It answers what tools with approve = "operator" ask.
    """
    import sys

    from pydantic import TypeAdapter, ValidationError

    from caesura.errors import ConfigurationError
    from caesura.server.keys import KeyName, add_table, key_table, new_key
    from caesura.server.settings import server_configuration

    for given in filter(None, (name, owner)):
        try:
            TypeAdapter(KeyName).validate_python(given)
        except ValidationError as error:
            raise ConfigurationError(
                f"{given!r} is no name of a key: letters, digits and _.@-, at most 64"
            ) from error
    if (
        config is not None
        and config.exists()
        and name in server_configuration(config).settings.keys
    ):
        raise ConfigurationError(f"{config} has a key {name!r} already: choose another name")
    names = [tool.strip() for tool in tools.split(",") if tool.strip()]
    key = new_key()
    allowed = None if tools == "all" else names
    table = key_table(name, key, owner=owner, tools=allowed, may_approve=may_approve)
    if config is None:
        print(table, file=sys.stderr)
    else:
        add_table(config, table)
    print(key)
