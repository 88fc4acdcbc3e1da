"""A server for several owners, with tools; it renders histories otherwise than they came about."""

import json
from pathlib import Path

from support.models.small import kv_bytes
from support.servers.process import RestartableServer

KEY = "key of anna"
OTHER = "key of bert"
TEMPLATE = Path(__file__).with_name("reformatting.jinja")
CONFIGURATION = """\
[sessions]
default_tools = "all"

[tools.get_weather]
type = "python"
callable = "weather:get_weather"

[tools.get_time]
type = "python"
callable = "weather:get_time"
approve = true
"""
TOOLS = '''\
async def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"it rains in {city}"


async def get_time(city: str) -> str:
    """The local time in a city."""
    return f"it is noon in {city}"
'''


def serve_with_keys(model_path: str, directory: Path) -> RestartableServer:
    """Start one in a folder."""
    (directory / "caesura.toml").write_text(CONFIGURATION)
    (directory / "weather.py").write_text(TOOLS)
    arguments = [
        *("--config", str(directory / "caesura.toml"), "--served-model-name", "demo"),
        *("--host-memory", str(kv_bytes(1024)), "--kv-cache-memory-bytes", str(kv_bytes(256))),
        *("--max-model-len", "4096", "--dtype", "float32", "--enforce-eager"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--logits-processors", "support.models.scripted:ScriptedToolCalls"),
        *("--chat-template", str(TEMPLATE), "--trust-request-chat-template"),
        *("--api-key", "alpha", "beta", KEY, OTHER),
        *("--additional-config", json.dumps({"caesura": {"check_integrity": True}})),
    ]
    return RestartableServer(model_path, arguments, directory)
