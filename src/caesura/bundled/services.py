"""The demo's tools, running: Python functions, an HTTP service, an MCP server."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from pathlib import Path
from string import Template

import httpx
from prometheus_client import CollectorRegistry

from caesura.bundled.demo_tools import TOOLS
from caesura.bundled.world import SEED_VARIABLE
from caesura.errors import CaesuraError
from caesura.tools import Executor, load_configuration, open_toolbox
from caesura.variables import environment

_START_SECONDS = 60.0
_END_SECONDS = 5.0
_PACKAGES = str(Path(__file__).parents[2])


class ServiceError(CaesuraError):
    """A service of the demo did not start."""


@contextmanager
def running_services(seed: int, configuration: Path, more: str = "") -> Iterator[None]:
    """Start the services of a world, and write the configuration of the tools that use them.

    Args:
        seed: of the world.
        configuration: the file to write.
        more: further tables of the file.

    Raises:
        ServiceError: the HTTP service did not start.
    """
    with environment({SEED_VARIABLE: str(seed)}), _directory_service() as url:
        _wait_until_it_answers(url)
        configuration.parent.mkdir(parents=True, exist_ok=True)
        configuration.write_text(f"{configuration_text(url, seed)}\n{more}", "utf-8")
        yield


@asynccontextmanager
async def running_tools(seed: int, configuration: Path) -> AsyncIterator[Executor]:
    """Start the services of a world, and open the tools on them.

    Args:
        seed: of the world.
        configuration: the tools' configuration file is written there.

    Raises:
        ServiceError: the HTTP service did not start.
        ConfigurationError: the MCP server did not start.
    """
    with running_services(seed, configuration):
        async with open_toolbox(load_configuration(configuration), complete=True) as toolbox:
            yield Executor(toolbox, registry=CollectorRegistry())


def configuration_text(directory_url: str, seed: int) -> str:
    """The configuration of the tools, as TOML."""
    template = files("caesura.bundled.tools").joinpath("tools.toml").read_text("utf-8")
    seconds = {f"{tool.name}_seconds": str(tool.expected_seconds) for tool in TOOLS}
    return Template(template).substitute(
        seconds,
        directory=directory_url,
        python=json.dumps(sys.executable),
        packages=json.dumps(_PACKAGES),
        seed=seed,
    )


@contextmanager
def _directory_service() -> Iterator[str]:
    """The HTTP service in a process of its own, on a free port; gives its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "caesura.bundled.tools.directory_service"]
        process = subprocess.Popen(
            [*command, "--socket", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": _with_packages()},
            start_new_session=True,  # Ctrl-C is for the program; this ends with its input
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _with_packages() -> str:
    return os.pathsep.join(filter(None, [_PACKAGES, os.environ.get("PYTHONPATH", "")]))


def _wait_until_it_answers(url: str) -> None:
    """The socket is open already: a request waits until the service takes it."""
    try:
        httpx.get(f"{url}/openapi.json", trust_env=False, timeout=_START_SECONDS)
    except httpx.TransportError as error:
        raise ServiceError(
            f"the demo's HTTP service did not start on {url} ({type(error).__name__}); its "
            "error stands above: is `uvicorn` installed?"
        ) from error
