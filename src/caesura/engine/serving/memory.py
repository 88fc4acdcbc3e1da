"""How much memory vLLM takes at its start, and whether that much is free."""

import math
import os
from argparse import Namespace
from dataclasses import dataclass

from caesura.allowance import memory
from caesura.errors import ConfigurationError
from caesura.units import format_size

ADVICE = (
    "say how much KV cache you want with --kv-cache-memory-bytes (4G, for instance), or take a "
    "smaller share with --gpu-memory-utilization"
)
"""What to do where it is not free."""

_ENGINE_PROCESS_BYTES = 3 * 2**28
"""What the engine's process takes for its own code before it looks how much is free."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of the device that computes: of a GPU, or of the machine.

    Attributes:
        name: of the device, for people.
        total_bytes: all of it.
        free_bytes: what is left for vLLM when its engine process looks.
    """

    name: str
    total_bytes: int
    free_bytes: int

    def wanted_bytes(self, share: float) -> int:
        """What vLLM takes of it."""
        return math.ceil(self.total_bytes * share)


def usual_share() -> float:
    """The share of a device's memory that vLLM takes by default."""
    from vllm.config import CacheConfig

    return float(CacheConfig.gpu_memory_utilization)


def device_memory() -> DeviceMemory | None:
    """Memory of the first device that vLLM would use, as vLLM counts it; None if it is not known.

    No GPU is initialised, since processes that are started later could not use it then.
    """
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        return _machine_memory()
    return _gpu_memory() if current_platform.is_cuda() else None


def check_memory(arguments: Namespace) -> None:
    """Refuse a start that fails for want of memory, before anything is loaded.

    Args:
        arguments: of vLLM's server, parsed.

    Raises:
        ConfigurationError: vLLM wants more than is free; says what to do.
    """
    if arguments.kv_cache_memory_bytes or os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        return
    memory = device_memory()
    share = arguments.gpu_memory_utilization
    if memory is not None and memory.wanted_bytes(share) > memory.free_bytes:
        raise ConfigurationError(f"{shortage(memory, share)}: {ADVICE}")


def shortage(memory: DeviceMemory, share: float) -> str:
    """How much memory vLLM wants, and how much is free, in words."""
    return (
        f"vLLM wants {share:.0%} of {memory.name}, {format_size(memory.wanted_bytes(share))} of "
        f"{format_size(memory.total_bytes)}, and about {format_size(memory.free_bytes)} are free"
    )


def _machine_memory() -> DeviceMemory:
    """That of the memory node of the first worker."""
    from vllm.utils.cpu_resource_utils import (
        get_allowed_cpu_list,
        get_memory_node_info,
        get_visible_memory_node,
    )

    nodes = get_visible_memory_node()
    node = get_allowed_cpu_list()[0].numa_node
    if node not in nodes:
        node = nodes[0]
    found = get_memory_node_info(node)
    # vLLM knows the limit of a container, and not those of groups within or around it.
    available_bytes = min(found.available_memory, memory().free_bytes)
    free_bytes = max(0, available_bytes - _ENGINE_PROCESS_BYTES)
    return DeviceMemory(f"the memory of node {node}", found.total_memory, free_bytes)


def _gpu_memory() -> DeviceMemory | None:
    from vllm.platforms import current_platform
    from vllm.utils.import_utils import import_pynvml

    nvml = import_pynvml()
    try:
        nvml.nvmlInit()
        try:
            index = current_platform.visible_device_id_to_physical_device_id(0)
            found = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(index))
            return DeviceMemory("the GPU's memory", int(found.total), int(found.free))
        finally:
            nvml.nvmlShutdown()
    except (AttributeError, RuntimeError, ValueError, nvml.NVMLError):
        return None  # a slice of a GPU, or memory that is the machine's: vLLM will say
