"""The vLLM adapter: everything that touches vLLM.

What programs use is imported lazily from here, since importing vLLM takes seconds and the
scheduler and the connector are loaded by name in vLLM's own processes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caesura.engine.config import CaesuraConfig, KeepContexts
    from caesura.engine.serving.launch import Engine, EngineSettings, start_engine
    from caesura.engine.serving.token_engines import InPlaceEngine

_HOMES = {
    "CaesuraConfig": "caesura.engine.config",
    "Engine": "caesura.engine.serving.launch",
    "EngineSettings": "caesura.engine.serving.launch",
    "InPlaceEngine": "caesura.engine.serving.token_engines",
    "KeepContexts": "caesura.engine.config",
    "start_engine": "caesura.engine.serving.launch",
}

__all__ = [
    "CaesuraConfig",
    "Engine",
    "EngineSettings",
    "InPlaceEngine",
    "KeepContexts",
    "start_engine",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
