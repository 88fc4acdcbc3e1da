"""The adapters (LoRA) of a server: by name, and apart from what was computed before a reload."""

import json
from collections.abc import Collection, Mapping

from vllm.lora.request import LoRARequest


class Adapters:
    """Adapters as vLLM knows them. One of them keeps its name, and mostly its path, when it is
    loaded again, and contexts are known by these: a salt tells its weights apart.

    Args:
        known: vLLM's, by name. It has a new object after each load.
    """

    def __init__(self, known: Mapping[str, LoRARequest]) -> None:
        self._known = known
        self._loaded: dict[str, tuple[LoRARequest, int]] = {}  # as seen last, and how often again

    def names(self) -> Collection[str]:
        """Those that can be chosen now."""
        return self._known.keys()

    def find(self, name: str) -> LoRARequest | None:
        """The adapter of that name, as it is loaded now."""
        return self._known.get(name)

    def salt(self, adapter: LoRARequest, given: str | None) -> str | None:
        """A salt for contexts of an adapter's present weights: the one that is given, while it was
        loaded once only."""
        known, loads = self._loaded.get(adapter.lora_name, (adapter, 0))
        loads += known is not adapter
        self._loaded[adapter.lora_name] = (adapter, loads)
        return json.dumps([adapter.lora_name, loads, given]) if loads else given
