"""`caesura serve`: vLLM's own server, with Caesura's scheduler and connector on."""

import json
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib.metadata import entry_points
from itertools import takewhile
from pathlib import Path

import yaml

from caesura.allowance import cores, visible_cores
from caesura.cml import Marker
from caesura.engine.config import CaesuraConfig, check_host_memory
from caesura.engine.flags import as_flags, set_cpu_defaults
from caesura.engine.protocol import CML_PARSER, CML_PARSER_PLUGIN
from caesura.engine.serving.memory import check_memory
from caesura.engine.serving.model_files import has_tokens, require_model
from caesura.engine.support import supported_only
from caesura.engine.versions import require_tested_vllm
from caesura.errors import ConfigurationError
from caesura.logs import configure_logging

logger = logging.getLogger(__name__)

PLUGIN = "caesura"
ENDPOINT_PLUGINS = "vllm.endpoint_plugins"
GRAMMARS = "--structured-outputs-config"
GRAMMAR_BACKEND = "guidance"
AUTO_TOOL_CHOICE = "--enable-auto-tool-choice"
SCHEDULER, CONNECTOR = "--scheduler-cls", "--kv-transfer-config"
CPU_BLOCK_SIZE = 32
SMALL_MACHINE_CORES = 4


def serve(model: str, config: CaesuraConfig, vllm_arguments: Sequence[str]) -> None:
    """Run vLLM's server until it is stopped.

    Args:
        model: what `vllm serve` takes as its model.
        config: Caesura's options.
        vllm_arguments: any further `vllm serve` arguments, passed on as they are.

    Raises:
        ConfigurationError: there is no such model, or options exclude each other or do not fit this
            machine.
        UnsupportedVersion: this vLLM did not pass the contract tests.
    """
    configure_logging()
    arguments = list(vllm_arguments)
    given, model = (
        model,
        require_model(
            model,
            revision=argument_value(arguments, "--revision"),
            cache=argument_value(arguments, "--download-dir"),
        ),
    )
    if model != given and argument_value(with_yaml(arguments), "--served-model-name") is None:
        arguments += ["--served-model-name", given]
    from vllm.version import __version__ as vllm_version

    require_tested_vllm(vllm_version)
    allow_plugin()
    check_host_memory(config.host_memory)
    if knows_cml(model, arguments):
        arguments += parser_for_cml(model, config, arguments)
        arguments += grammars_for_cml(arguments)
    run_vllm(server_command(model, config, arguments, on_cpu=on_cpu()))


def named_model(arguments: Sequence[str]) -> str | None:
    """The model that vLLM's flags name, or its configuration file.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    return argument_value(with_yaml(arguments), "--model")


def with_yaml(arguments: Sequence[str]) -> list[str]:
    """The arguments, and what vLLM's own configuration file (`--config FILE.yaml`) adds to them.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    return [*arguments, *_of_yaml(arguments)]


def knows_cml(model: str, arguments: Sequence[str]) -> bool:
    """Whether CML's markers are tokens of the model that is served."""
    own = argument_value(arguments, "--tokenizer")
    revision = argument_value(arguments, "--tokenizer-revision" if own else "--revision")
    return has_tokens(
        own or model,
        [marker.value for marker in Marker],
        revision=revision,
        cache=argument_value(arguments, "--download-dir"),
    )


def parser_for_cml(model: str, config: CaesuraConfig, arguments: Sequence[str]) -> list[str]:
    """Flags for a model that knows CML; warns of what would make it write markers to clients."""
    if config.config_file is None:
        logger.warning(
            "%s calls tools in CML, and this server has none: its sessions can call nothing. Name "
            "tools in a file, and give it with --config",
            model,
        )
    given = with_yaml(arguments)
    parser = argument_value(given, "--tool-call-parser")
    if parser is None:
        logger.info("%s calls tools in CML: --tool-call-parser %s", model, CML_PARSER)
        choice = [] if argument_value(given, AUTO_TOOL_CHOICE) is not None else [AUTO_TOOL_CHOICE]
        return [*choice, "--tool-call-parser", CML_PARSER]
    if parser != CML_PARSER:
        logger.warning(
            "%s calls tools in CML, which --tool-call-parser %s does not read: clients will see "
            "markers. Leave the flag out, or give %s",
            model,
            parser,
            CML_PARSER,
        )
    return []


def grammars_for_cml(arguments: Sequence[str]) -> list[str]:
    """Flags by which all grammars have the backend that calls in CML need. An engine has one, and
    without them the first request to need any chooses it: requests that would have another are
    refused from then on."""
    given = with_yaml(arguments)
    backend = argument_value(given, f"{GRAMMARS}.backend") or argument_value(given, GRAMMARS)
    if backend is None:
        return [f"{GRAMMARS}.backend", GRAMMAR_BACKEND]
    if GRAMMAR_BACKEND not in backend:
        logger.warning(
            "calls in CML need grammars of %s: name it as the backend in %s, or sessions fail",
            GRAMMAR_BACKEND,
            GRAMMARS,
        )
    return []


def _of_yaml(arguments: Sequence[str]) -> list[str]:
    file = argument_value(arguments, "--config")
    if file is None:
        return []
    try:
        content = yaml.safe_load(Path(file).read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
    flags = content.items() if isinstance(content, dict) else ()
    return [f"--{name}={value}" for name, value in flags]


def run_vllm(command: list[str]) -> None:
    """vLLM's `serve` command. Its own `main` asks for a distribution named "vllm", which the
    CPU build is not."""
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.logger import configure_logging_from_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    from caesura.engine.seams import cli_env_setup

    sys.argv = ["vllm", *command]
    cli_env_setup()
    parser = FlexibleArgumentParser(prog="caesura", description="vLLM's options")
    subcommand = ServeSubcommand()
    subcommand.subparser_init(parser.add_subparsers(dest="subparser"))
    arguments = parser.parse_args(command)
    configure_logging_from_args(arguments)
    subcommand.validate(arguments)
    require_one_api_process(arguments)
    check_memory(arguments)
    with supported_only():
        subcommand.cmd(arguments)


def require_one_api_process(arguments: Namespace) -> None:
    """Have one API process, however many engines there are: by itself vLLM starts one for each.

    Args:
        arguments: of vLLM's server, parsed.

    Raises:
        ConfigurationError: several are asked for.
    """
    count = arguments.api_server_count
    if count is not None and count > 1:
        raise ConfigurationError(
            f"--api-server-count {count} is not possible: sessions, and what clients were "
            "answered, are known to one process. Leave it out; for more engines give "
            "--data-parallel-size, for more processes start more servers behind a router "
            "(docs/how-to/scale.md)"
        )
    if count is None and not arguments.headless:
        arguments.api_server_count = 1


def server_command(
    model: str, config: CaesuraConfig, vllm_arguments: Sequence[str], *, on_cpu: bool
) -> list[str]:
    """The `vllm` command line, and (on CPU) the environment that suits it.

    Raises:
        ConfigurationError: options that exclude each other.
    """
    arguments = list(vllm_arguments)
    if argument_value(arguments, SCHEDULER) is not None:
        raise ConfigurationError(
            f"{SCHEDULER} is set by `caesura serve` itself: pauses are that scheduler's."
        )
    present = _json(arguments, "--additional-config")
    given = with_yaml(arguments)
    parser = config.tool_call_parser or argument_value(given, "--tool-call-parser")
    if parser == CML_PARSER:
        plugin = argument_value(given, "--tool-parser-plugin")
        if plugin is None:
            arguments += ["--tool-parser-plugin", CML_PARSER_PLUGIN]
        elif plugin != CML_PARSER_PLUGIN:
            raise ConfigurationError(
                f"vLLM loads one plug-in of parsers: {plugin} would take the place of the one that "
                f"has {CML_PARSER}. Leave --tool-parser-plugin out, or name a parser of its own "
                "with --tool-call-parser"
            )
    # Each of several engines on this machine would take all of it.
    share = config.host_memory // local_engines(given)
    config = config.model_copy(update={"tool_call_parser": parser, "host_memory": share})
    if on_cpu:
        prepare_cpu(arguments)
    beside = _json(arguments, CONNECTOR)
    return ["serve", model, *arguments, *as_flags(config, present, beside)]


def local_engines(arguments: Sequence[str]) -> int:
    """How many engines run on this machine (data parallel)."""
    flags = ("--data-parallel-size-local", "-dpl", "--data-parallel-size", "-dp")
    found = (argument_value(arguments, flag) for flag in flags)
    number = next((value for value in found if value is not None), "1")
    return max(1, int(number)) if number.isdecimal() else 1  # vLLM says what is wrong with others


def prepare_cpu(arguments: list[str]) -> None:
    """Defaults for CPU servers that the user has not chosen otherwise."""
    if argument_value(arguments, "--block-size") is None:
        # vLLM's CPU default of 128 is coarse: up to 127 tokens are computed again per resume.
        arguments += ["--block-size", str(CPU_BLOCK_SIZE)]
    usable = cores()
    if usable <= SMALL_MACHINE_CORES:
        # One process fewer: a worker of its own would spin on shared memory, on a core that
        # the API process needs.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable - 1)))
    else:
        # vLLM computes on all cores that it sees, but for those that it leaves free.
        set_cpu_defaults(1 + visible_cores() - usable)


def allow_plugin() -> None:
    """Turn on Caesura's part of the HTTP server, in this process and those that it starts.

    vLLM loads endpoint plug-ins only where `VLLM_PLUGINS` names them, and naming one there turns
    off whatever else is not named. So if the user names none, all others that vLLM would have
    loaded are named too; endpoint plug-ins are not among those.
    """
    named = os.environ.get("VLLM_PLUGINS")
    names = set(named.split(",")) if named is not None else _plugins_on_by_default()
    os.environ["VLLM_PLUGINS"] = ",".join(sorted(names - {""} | {PLUGIN}))
    if PLUGIN not in entry_points(group=ENDPOINT_PLUGINS).names:
        logger.warning(
            "This installation of Caesura does not have its endpoint plug-in: follow-up requests "
            "are served without their transcripts and reports. Install Caesura again."
        )


def _plugins_on_by_default() -> set[str]:
    return {
        plugin.name
        for group in entry_points().groups
        if group.startswith("vllm.") and group != ENDPOINT_PLUGINS
        for plugin in entry_points(group=group)
    }


def on_cpu() -> bool:
    """Whether vLLM would run on the CPU here."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def argument_value(arguments: Sequence[str], flag: str) -> str | None:
    """The value of `--flag value` or `--flag=value`, None when it is not given."""
    spellings = (flag, flag.replace("_", "-"), "--" + flag[2:].replace("-", "_"))
    for index, argument in enumerate(arguments):
        name, separator, value = argument.partition("=")
        if name in spellings:
            if separator:
                return value
            return arguments[index + 1] if index + 1 < len(arguments) else ""
    return None


def argument_values(arguments: Sequence[str], flag: str) -> list[str] | None:
    """The values of `--flag value value`, None when it is not given."""
    first = argument_value(arguments, flag)
    if first is None:
        return None
    spellings = (flag, "--" + flag[2:].replace("-", "_"))
    found = next((index for index, word in enumerate(arguments) if word in spellings), None)
    if found is None:  # --flag=value
        return [first]
    return list(takewhile(lambda word: not word.startswith("-"), arguments[found + 1 :]))


def take_argument(arguments: list[str], flag: str) -> str | None:
    """Remove a flag with its value from the arguments; its value, None when it is not given."""
    value = argument_value(arguments, flag)
    if value is None:
        return None
    for index, argument in enumerate(arguments):
        name, separator, _ = argument.partition("=")
        if name.replace("_", "-") == flag:
            del arguments[index : index + (1 if separator else 2)]
            break
    return value


def _json(arguments: list[str], flag: str) -> dict[str, object] | None:
    """Remove a flag from the arguments; its value, None when it is not given."""
    text = take_argument(arguments, flag)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{flag} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"{flag} must be a JSON object")
    return value
