"""The server that the examples ask for, with little memory and a script instead of a mind."""

import json
import os
import shutil
import sys
from pathlib import Path

from servers import RestartableServer, free_port
from small_model import kv_bytes

EXAMPLES = Path(__file__).parents[3] / "examples"


def serve_examples(model_path: str, directory: Path) -> RestartableServer:
    """Start one, in a copy of the examples' folder."""
    shutil.copytree(EXAMPLES, directory / "examples")
    port = free_port()
    configuration = directory / "examples" / "caesura.toml"
    text = configuration.read_text()
    configuration.write_text(text.replace("localhost:8000", f"127.0.0.1:{port}"))
    arguments = [
        *("--config", "examples/caesura.toml", "--served-model-name", "agent", "demo"),
        *("--policy", "swap", "--host-memory", str(kv_bytes(1024))),
        *("--kv-cache-memory-bytes", str(kv_bytes(72)), "--max-model-len", "2048"),
        *("--dtype", "float32", "--enforce-eager"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--logits-processors", "scripted_model:ScriptedToolCalls"),
        *("--additional-config", json.dumps({"caesura": {"check_integrity": True}})),
    ]
    # The one Python that has everything is found as in an activated environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return RestartableServer(model_path, arguments, directory, port, PATH=path)
