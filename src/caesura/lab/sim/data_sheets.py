"""What data sheets say of devices, and published configurations of models."""

from dataclasses import dataclass

BYTES_PER_ELEMENT = 2  # bfloat16 weights and KV


@dataclass(frozen=True, slots=True)
class DataSheet:
    """What a data sheet says of one device. Rates are peaks, per second."""

    memory_bytes: int
    dense_bf16_operations: float
    memory_bandwidth_bytes: float
    link_bytes: float  # to host memory, one way


@dataclass(frozen=True, slots=True)
class Model:
    """A transformer with full attention in every layer; sizes from its published configuration.

    Attributes:
        parameters: all of them. An iteration reads them all: with dozens of sequences nearly
            every expert of a mixture has work.
        layers, query_heads, kv_heads, head_size: of its attention.
        active_parameters: those that compute one token, where only some experts do.
    """

    parameters: int
    layers: int
    query_heads: int
    kv_heads: int
    head_size: int
    active_parameters: int | None = None

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return self.parameters * BYTES_PER_ELEMENT

    @property
    def computing_parameters(self) -> int:
        """Parameters that compute one token."""
        return self.active_parameters or self.parameters

    @property
    def query_width(self) -> int:
        """Query heads x head size."""
        return self.query_heads * self.head_size

    def kv_bytes_per_token(self, tensor_parallel: int = 1) -> int:
        """Bytes of keys and values of one token, over all layers and devices.

        Devices share the KV heads; where there are more devices than heads each has one.
        """
        heads = max(self.kv_heads, tensor_parallel)
        return 2 * self.layers * heads * self.head_size * BYTES_PER_ELEMENT


_A100 = DataSheet(80 * 10**9, 312e12, 2.039e12, 32e9)

DEVICES = {
    # NVIDIA A100 data sheet, 80GB SXM: 312 TFLOPS bf16, 2,039 GB/s; PCIe Gen4 64 GB/s both ways.
    "a100-80gb": _A100,
    # The same device, but `PUBLISHED` in `profiles.py` as it stands: KV is read for nothing.
    "a100-80gb-published": _A100,
    # NVIDIA H100 data sheet, SXM: 1,979 TFLOPS bf16 with sparsity, half of it dense; 3.35 TB/s;
    # PCIe Gen5 128 GB/s both ways.
    "h100-80gb": DataSheet(80 * 10**9, 989.5e12, 3.35e12, 64e9),
    # NVIDIA H200 data sheet, SXM: 141 GB, 4.8 TB/s; computes and is linked as the H100.
    "h200": DataSheet(141 * 10**9, 989.5e12, 4.8e12, 64e9),
    # NVIDIA L40S data sheet: 48 GB GDDR6, 864 GB/s; 362.05 TFLOPS bf16 without sparsity; PCIe
    # Gen4 64 GB/s both ways.
    "l40s": DataSheet(48 * 10**9, 362.05e12, 0.864e12, 32e9),
    # AMD Instinct MI300X data sheet: 192 GB HBM3, 5.3 TB/s; 1,307.4 TFLOPS bf16 without
    # sparsity; PCIe Gen5 x16, 64 GB/s each way.
    "mi300x": DataSheet(192 * 10**9, 1307.4e12, 5.3e12, 64e9),
}

MODELS = {
    # EleutherAI/gpt-j-6b: every query head has its own keys and values.
    "gpt-j-6b": Model(6_050_882_784, 28, 16, 16, 256),
    # lmsys/vicuna-13b, Llama's structure: the same.
    "vicuna-13b": Model(13_015_864_320, 40, 40, 40, 128),
    # meta-llama/Llama-3.1-8B and -70B; Llama-3-8B and -70B have the same structure.
    "llama-3.1-8b": Model(8_030_261_248, 32, 32, 8, 128),
    "llama-3.1-70b": Model(70_553_706_496, 80, 64, 8, 128),
    # Qwen/Qwen3-8B and -32B.
    "qwen3-8b": Model(8_190_735_360, 36, 32, 8, 128),
    "qwen3-32b": Model(32_762_123_264, 64, 64, 8, 128),
    # Qwen/Qwen3-Coder-30B-A3B: 8 of 128 experts, 3.3 billion parameters per token.
    "qwen3-coder-30b-a3b": Model(30_532_122_624, 48, 32, 4, 128, 3_300_000_000),
    # zai-org/GLM-4.5-Air: 106 billion parameters, 12 billion per token.
    "glm-4.5-air": Model(106_000_000_000, 46, 96, 8, 128, 12_000_000_000),
}
