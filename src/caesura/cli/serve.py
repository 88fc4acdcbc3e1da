"""`caesura serve`: our options from `CaesuraConfig`, and any of vLLM's."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Group, Parameter

from caesura.cli.options import FLATTENED, examples, with_parameters
from caesura.engine.config import CaesuraConfig

_RARE = Parameter(group=Group("Rarely needed", sort_key=10))
DEMO = "demo"
LOOPBACK = "127.0.0.1"
DOCS_OFF = "--disable-fastapi-docs"
_YAML = (".yaml", ".yml")

app = App(
    "serve",
    usage="Usage: caesura serve [MODEL] [OPTIONS] [OPTIONS OF vllm serve]",
    help_epilogue=examples(
        "caesura serve",
        "caesura serve Qwen/Qwen3-8B --host-memory 64GiB \\",
        "    --enable-auto-tool-choice --tool-call-parser hermes",
        "caesura serve Qwen/Qwen3-0.6B --kv-cache-memory-bytes 2G --config caesura.toml",
    ),
)


if TYPE_CHECKING:
    ServeOptions = CaesuraConfig
else:
    ServeOptions = with_parameters(
        CaesuraConfig,
        host_memory=Parameter(metavar="SIZE"),
        copy_budget=Parameter(metavar="SIZE"),
        allowed_hosts=Parameter(metavar="NAME", consume_multiple=False),
        transcript_memory=Parameter(metavar="SIZE"),
        config_file=Parameter("--config", metavar="FILE"),
        tool_call_parser=Parameter(parse=False),  # vLLM has that flag, and it is read from there
        **dict.fromkeys(
            (
                "max_pauses",
                "forget_after_seconds",
                "load_in_step",
                "copy_thread",
                "check_integrity",
                "trace",
            ),
            _RARE,
        ),
    )


@app.default
def serve(
    *arguments: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    database: Annotated[str | None, Parameter(metavar="WHERE")] = None,
    options: Annotated[ServeOptions | None, FLATTENED] = None,
) -> None:
    """Serve a model with pauses: vLLM's OpenAI-compatible server, and any of its flags.

    MODEL is what `vllm serve` takes, a name or a path. Without it, or as demo: a small model that
    comes with Caesura, with six tools, to try `caesura chat` and the dashboard without a download.

    Clients need no change. A client that runs its own tools sends its follow-up request as always;
    the engine recognises the context that it continues. Tools that are named in a file (--config)
    are run by the server. With --config a YAML file is vLLM's, as in `vllm serve`. Metrics:
    /metrics, caesura:*.

    Without an API key (--api-key, VLLM_API_KEY) the server listens on 127.0.0.1 only, unless --host
    is given, and serves tools to other machines only with --insecure-no-key.

    Args:
        database: Where sessions are kept, in place of what the configuration file says: a file, or
            postgresql://USER@HOST/NAME, which several servers share. Others on this machine see
            options: a password is better given as PGPASSWORD.
    """
    from caesura.engine.serving.serve import named_model
    from caesura.engine.serving.serve import serve as run_server
    from caesura.server.settings import DATABASE_VARIABLE

    if database is not None:
        os.environ[DATABASE_VARIABLE] = database
    model, flags = _model_and_flags(arguments)
    config = options or ServeOptions()
    file = config.config_file
    if file is not None and file.suffix in _YAML:
        flags = (*flags, "--config", str(file))
        config = config.model_copy(update={"config_file": None})
    elif file is not None:
        config = config.model_copy(update={"config_file": _checked(file)})
    model = model or named_model(flags) or DEMO
    flags = (*flags, *access_flags(config, flags, is_demo=model == DEMO))
    if model == DEMO:
        _serve_demo(config, flags)
    else:
        run_server(model, config, flags)


def _model_and_flags(arguments: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """The model, if it is named first, and vLLM's flags."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], tuple(arguments[1:])
    return None, tuple(arguments)


def _serve_demo(config: CaesuraConfig, flags: Sequence[str]) -> None:
    from caesura.bundled import CML_MODEL
    from caesura.cli.demo_server import demo_flags, demo_tools, hint, with_host_memory
    from caesura.console import plain_console
    from caesura.engine.serving.serve import serve as run_server

    config = with_host_memory(config)
    arguments = (*flags, *demo_flags(flags))
    if config.config_file is not None:  # other tools than those that it knows
        run_server(str(CML_MODEL), config, arguments)
        return
    with demo_tools(flags) as file:
        plain_console(stderr=True).print(hint(), soft_wrap=True, highlight=False)
        run_server(str(CML_MODEL), config.model_copy(update={"config_file": file}), arguments)


def access_flags(config: CaesuraConfig, flags: Sequence[str], *, is_demo: bool) -> list[str]:
    """vLLM's flags that keep the server to this machine where it asks for no key.

    Raises:
        ConfigurationError: a key is empty, or tools would be open to a network without one.
    """
    from caesura.engine.serving.serve import argument_value, argument_values, with_yaml
    from caesura.server.access import given_keys, require_closed
    from caesura.server.settings import server_configuration

    given, added = with_yaml(flags), []
    if not config.api_docs and argument_value(given, DOCS_OFF) is None:
        added.append(DOCS_OFF)
    settings = server_configuration(config.config_file).settings
    if given_keys(argument_values(given, "--api-key")) or settings.keys:
        return added
    host, uds = argument_value(given, "--host"), argument_value(given, "--uds")
    if host is None and uds is None:
        host = LOOPBACK
        added += ["--host", LOOPBACK]
    has_tools = bool(settings.tools or settings.mcp or (is_demo and not config.config_file))
    require_closed(host, uds, has_tools=has_tools, insecure=config.insecure_no_key)
    return added


def _checked(file: Path) -> Path:
    """The file as an absolute path; what is wrong in it is said before the model is loaded."""
    from caesura.server.settings import server_configuration

    return server_configuration(file).file.resolve()
