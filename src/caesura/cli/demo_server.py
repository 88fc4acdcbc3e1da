"""`caesura serve demo`: the bundled model with its six tools, without a download."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from caesura.bundled.demo_tools import TOOLS
from caesura.bundled.services import running_services
from caesura.bundled.world import World
from caesura.engine.config import CaesuraConfig
from caesura.engine.serving.serve import argument_value

SEED = 0
_HOST_MEMORY_BYTES = 128 * 2**20
_KV_MEMORY_BYTES = 64 * 2**20
_PORT = "8000"  # vLLM's
_SESSIONS = '[sessions]\nfunction_calling = "async"\ndefault_tools = "all"\n'
_QUESTION, _TOOL, _CODE = "What is the stock of K4821?", "stock", "K4821"
_LONG_QUESTION = "Tell me the owner of K4821, the status of 773412 and the stock of B1203."


@contextmanager
def demo_tools(arguments: Sequence[str]) -> Iterator[Path]:
    """Start what the tools ask: an HTTP service; the MCP server is started with the sessions.

    Args:
        arguments: vLLM's; sessions are kept by the port that is served.

    Returns:
        The file with the tools and the settings of sessions.

    Raises:
        ServiceError: the HTTP service did not start.
    """
    configuration = _state_folder(argument_value(arguments, "--port") or _PORT) / "caesura.toml"
    with running_services(SEED, configuration, _SESSIONS):
        yield configuration


def hint() -> str:
    """What to type once it serves, and what comes back."""
    names = ", ".join(tool.name for tool in TOOLS)
    answer = World(SEED).value(_TOOL, _CODE)
    return (
        f"The bundled model, with its tools ({names}). The last line of the log says when the "
        "server is up. Then type the `caesura chat` that it shows in another terminal, and ask:\n"
        f"  {_QUESTION}   (the answer is {answer})\n"
        f"  {_LONG_QUESTION}"
    )


def demo_flags(arguments: Sequence[str]) -> list[str]:
    """vLLM's flags for a small machine and a quick start, but those that the user has chosen."""
    usual = {
        "--served-model-name": "demo",
        "--kv-cache-memory-bytes": str(_KV_MEMORY_BYTES),
        "--dtype": "float32",
        "--override-generation-config": '{"temperature": 0}',  # it was trained for that
    }
    flags = [
        word
        for flag, value in usual.items()
        if argument_value(arguments, flag) is None
        for word in (flag, value)
    ]
    eager = ("--enforce-eager", "--no-enforce-eager")
    if all(argument_value(arguments, flag) is None for flag in eager):
        flags.append("--enforce-eager")
    return flags


def with_host_memory(config: CaesuraConfig) -> CaesuraConfig:
    """The options with host memory for copies, unless the user has said how much."""
    if "host_memory" in config.model_fields_set:
        return config
    return config.model_copy(update={"host_memory": _HOST_MEMORY_BYTES})


def _state_folder(port: str) -> Path:
    """Where the sessions of the demo on this port are kept."""
    try:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        folder = Path(base) / "caesura" / f"demo-{port}"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # nobody's home, or not writable
        return Path(tempfile.mkdtemp(prefix="caesura-demo-"))
    return folder
