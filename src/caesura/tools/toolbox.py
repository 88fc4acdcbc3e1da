"""All tools of a configuration, open."""

import asyncio
from collections import ChainMap
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from caesura.errors import ConfigurationError
from caesura.tools.configuration import Configuration
from caesura.tools.endpoint import Endpoint
from caesura.tools.http_endpoint import HttpEndpoint
from caesura.tools.http_request import RequestError, request_template
from caesura.tools.human_endpoint import HumanEndpoint
from caesura.tools.mcp_server import McpServer
from caesura.tools.mcp_tools import Names
from caesura.tools.model_endpoint import ModelEndpoint
from caesura.tools.python_endpoint import PythonEndpoint, load_function
from caesura.tools.schema import ArgumentSchema
from caesura.tools.sequence_endpoint import SequenceEndpoint, SequenceError, sequence_cycle
from caesura.tools.settings import (
    HttpTool,
    HumanTool,
    ModelTool,
    PythonTool,
    SequenceTool,
    Settings,
)
from caesura.tools.toml_lines import KeyPath


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Tools that can be called.

    Attributes:
        endpoints: by name. Those of MCP servers come and go as their servers say.
        secrets: values that are kept out of error messages.
        credentials: values that are kept out of results.
        servers: the MCP servers.
    """

    endpoints: Mapping[str, Endpoint]
    secrets: frozenset[str] = frozenset()
    credentials: frozenset[str] = frozenset()
    servers: Sequence[McpServer] = ()

    def may_bring(self, name: str) -> bool:
        """Whether a tool that is not there may still come: its MCP server is not connected yet,
        or somebody waits for it."""
        return any(server.tools.may_bring(name) for server in self.servers)

    def expect(self, names: Iterable[str]) -> None:
        """Sessions need these tools: they may come after their server's first list."""
        for server in self.servers:
            server.tools.expected.update(names)

    async def endpoint(self, name: str) -> Endpoint | None:
        """A tool, waited for if it may still come; None if there is none."""
        for server in self.servers:
            if name not in self.endpoints and server.tools.may_bring(name):
                with suppress(TimeoutError):
                    async with asyncio.timeout(server.wait_seconds):
                        await server.tools.arrival(name)
        return self.endpoints.get(name)


@asynccontextmanager
async def open_toolbox(
    configuration: Configuration[Settings], *, complete: bool = False
) -> AsyncIterator[Toolbox]:
    """Import, connect and check everything; close it in the end.

    Args:
        configuration: the tools.
        complete: every MCP server must be there. Else one that cannot be reached is connected
            later, unless it is required.

    Raises:
        ConfigurationError: something cannot be used. All that is wrong is named, with file,
            line and key.
    """
    async with AsyncExitStack() as stack:
        own, problems = _open_own(configuration, stack)
        mcp = configuration.settings.mcp
        names = Names(
            configuration.settings.tools, {name: mcp[name].prefix_of(name) for name in mcp}
        )
        servers = [McpServer(name, mcp[name], names, configuration.secrets) for name in mcp]
        for server in servers:
            stack.push_async_callback(server.close)
        problems += await _start(configuration, servers)
        if complete:
            problems += [
                configuration.error(("mcp", server.name), "the server is not there; start it")
                for server in servers
                if not server.tools.is_known
            ]
        endpoints = ChainMap(own, *(server.tools.endpoints for server in servers))
        toolbox = Toolbox(endpoints, configuration.secrets, configuration.credentials, servers)
        problems += _clashes(configuration, servers)
        if not problems:
            problems += _misspelt(configuration, servers)
        if not problems:
            problems += _open_sequences(configuration, own, toolbox)
        if problems:
            raise ConfigurationError("\n".join(map(str, problems)))
        yield toolbox


def _open_own(
    configuration: Configuration[Settings], stack: AsyncExitStack
) -> tuple[dict[str, Endpoint], list[ConfigurationError]]:
    """Endpoints of all tools but sequences, and what is wrong with the others."""
    endpoints: dict[str, Endpoint] = {}
    problems: list[ConfigurationError] = []
    for name, settings in configuration.settings.tools.items():
        path: KeyPath = ("tools", name)
        try:
            match settings:
                case PythonTool():
                    path = (*path, "callable")
                    directory = configuration.file.resolve().parent
                    function = load_function(settings.callable, directory)
                    endpoints[name] = PythonEndpoint(name, settings, function)
                case HttpTool():
                    endpoints[name] = http = _open_http(name, settings)
                    stack.push_async_callback(http.aclose)
                case ModelTool():
                    endpoints[name] = model = ModelEndpoint(name, settings)
                    stack.push_async_callback(model.aclose)
                case HumanTool():
                    endpoints[name] = HumanEndpoint(name, settings)
        except RequestError as error:
            problems.append(configuration.error((*path, *error.key), str(error)))
        except ValueError as error:
            problems.append(configuration.error(path, str(error)))
    return endpoints, problems


def _open_http(name: str, settings: HttpTool) -> HttpEndpoint:
    try:
        schema = ArgumentSchema.closed(settings.parameters)
    except ValueError as error:
        raise RequestError(("parameters",), str(error)) from None
    return HttpEndpoint(name, settings, schema, request_template(settings, schema))


async def _start(
    configuration: Configuration[Settings], servers: list[McpServer]
) -> list[ConfigurationError]:
    problems: list[ConfigurationError] = []
    outcomes = await asyncio.gather(*(server.start() for server in servers), return_exceptions=True)
    for server, outcome in zip(servers, outcomes, strict=True):
        path = ("mcp", server.name)
        if isinstance(outcome, ValueError):
            message = f"the server cannot be used: {outcome}; start it, or remove this table"
            problems.append(configuration.error(path, message))
        elif isinstance(outcome, BaseException):
            raise outcome
    return problems


def _clashes(
    configuration: Configuration[Settings], servers: list[McpServer]
) -> list[ConfigurationError]:
    return [
        configuration.error(
            ("mcp", server.name),
            f"{name!r} is a tool of {owner} too; give one of them another prefix, or name in "
            "`tools` which are offered",
        )
        for server in servers
        for name, owner in server.tools.clashes.items()
    ]


def _misspelt(
    configuration: Configuration[Settings], servers: list[McpServer]
) -> list[ConfigurationError]:
    """Names in the settings that the servers do not know."""
    problems: list[ConfigurationError] = []
    for server in servers:
        settings = configuration.settings.mcp[server.name]
        for key in server.tools.missing() if server.tools.is_known else ():
            path: KeyPath = ("mcp", server.name, "settings", key)
            if key not in settings.settings:
                path = ("mcp", server.name, "tools")
            known = ", ".join(server.tools.names_there) or "none"
            problems.append(
                configuration.error(path, f"the server has no tool {key!r}; it has: {known}")
            )
    return problems


def _open_sequences(
    configuration: Configuration[Settings],
    own: dict[str, Endpoint],
    toolbox: Toolbox,
) -> list[ConfigurationError]:
    sequences = {
        name: settings
        for name, settings in configuration.settings.tools.items()
        if isinstance(settings, SequenceTool)
    }
    if cycle := sequence_cycle(sequences):
        message = f"runs itself: {' -> '.join(cycle)}; take one of the steps out"
        return [configuration.error(("tools", cycle[0], "steps"), message)]
    problems: list[ConfigurationError] = []
    for name in _steps_first(sequences):
        settings = sequences[name]
        try:
            own[name] = SequenceEndpoint(name, settings, toolbox.endpoints, toolbox.may_bring)
        except SequenceError as error:
            path: KeyPath = ("tools", name, "steps", error.step)
            problems.append(configuration.error(path, str(error)))
        except ValueError as error:
            problems.append(configuration.error(("tools", name), str(error)))
    return problems


def _steps_first(sequences: Mapping[str, SequenceTool]) -> list[str]:
    """The sequences, each after those that it runs."""
    ordered: list[str] = []

    def add(name: str) -> None:
        for step in sequences[name].steps:
            if step.tool in sequences and step.tool not in ordered:
                add(step.tool)
        if name not in ordered:
            ordered.append(name)

    for name in sequences:
        add(name)
    return ordered
