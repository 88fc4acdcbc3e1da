"""The model of the engine tests: real, and as small as attention gets."""

from caesura.lab.models.noise_model import DemoModelConfig

BLOCK_SIZE = 32
MODEL = DemoModelConfig(hidden_size=128, layers=2, heads=2, kv_heads=1, ffn_size=384)


def kv_bytes(blocks: int) -> int:
    """KV memory of `MODEL` in float32: 2 (K, V) x layers x KV heads x head size x 4."""
    token_bytes = 2 * MODEL.layers * MODEL.kv_heads * MODEL.head_size * 4
    return blocks * BLOCK_SIZE * token_bytes
