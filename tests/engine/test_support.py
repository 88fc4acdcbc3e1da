"""Models and settings that pauses do not work with are refused, with what to do instead."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from vllm.config import ModelConfig, VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.transformers_utils.configs.deepseek_v4 import DeepseekV4Config
from vllm.v1.kv_cache_interface import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    HiddenStateCacheSpec,
    KVCacheGroupSpec,
    KVCacheSpec,
    MLAAttentionSpec,
    RSWASpec,
    SinkFullAttentionSpec,
    SlidingWindowSpec,
    UniformTypeKVCacheSpecs,
)

from caesura.engine.support import (
    check_supported,
    layers_refusal,
    model_refusals,
    refusals,
    require_supported,
    supported_only,
    window_note,
)
from caesura.errors import ConfigurationError
from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.sim.vllm_config import base_config, kv_cache_config
from support.models.structures import LATENT

ATTENTION = FullAttentionSpec(block_size=16, num_kv_heads=4, head_size=64, dtype=torch.bfloat16)
LATENT_ATTENTION = MLAAttentionSpec(
    block_size=16, num_kv_heads=1, head_size=576, dtype=torch.bfloat16
)


def configured(change: Callable[[VllmConfig], None]) -> VllmConfig:
    """The configuration of a small model, changed in one place."""
    config = copy.copy(base_config(str(demo_model_path()), 16))
    config.parallel_config = copy.copy(config.parallel_config)
    config.cache_config = copy.copy(config.cache_config)
    config.attention_config = copy.copy(config.attention_config)
    change(config)
    return config


def test_a_model_of_full_attention_is_supported() -> None:
    assert list(refusals(configured(lambda config: None))) == []


@pytest.mark.parametrize(
    ("section", "setting", "value", "advice"),
    [
        ("cache_config", "enable_prefix_caching", False, "Remove --no-enable-prefix-caching"),
        ("parallel_config", "pipeline_parallel_size", 2, "Use --tensor-parallel-size instead"),
        ("parallel_config", "decode_context_parallel_size", 2, "Leave out --decode-context"),
        ("parallel_config", "prefill_context_parallel_size", 2, "--prefill-context-parallel-size"),
        ("attention_config", "hisparse_config", object(), "Leave hisparse_config out"),
    ],
)
def test_settings_that_do_not_work_are_refused_with_what_to_do(
    section: str, setting: str, value: object, advice: str
) -> None:
    config = configured(lambda config: setattr(getattr(config, section), setting, value))
    with pytest.raises(ConfigurationError, match=advice):
        require_supported(config)


def test_extraction_of_hidden_states_is_refused() -> None:
    speculative = SimpleNamespace(method="extract_hidden_states")
    config = configured(lambda config: setattr(config, "speculative_config", speculative))
    with pytest.raises(ConfigurationError, match="hidden states"):
        require_supported(config)


def test_vllms_frontend_in_rust_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_USE_RUST_FRONTEND", "1")
    with pytest.raises(ConfigurationError, match="Unset it"):
        require_supported(configured(lambda config: None))


def test_only_configurations_that_work_are_made_meanwhile() -> None:
    arguments = EngineArgs(
        model=str(demo_model_path()),
        skip_tokenizer_init=True,
        enforce_eager=True,
        distributed_executor_backend="uni",
        enable_prefix_caching=False,
    )
    with supported_only(), pytest.raises(ConfigurationError, match="prefix caching"):
        arguments.create_engine_config()
    assert not arguments.create_engine_config().cache_config.enable_prefix_caching


def configuration_of(folder: Path, config: transformers.PretrainedConfig, name: str) -> str:
    """A model without weights."""
    content = {**config.to_dict(), "architectures": [name]}
    (folder / "config.json").write_text(json.dumps(content, default=str))
    return str(folder)


@pytest.mark.parametrize(
    ("config", "architecture", "what"),
    [
        (transformers.BertConfig(num_hidden_layers=1), "BertModel", "pooling model"),
        (
            transformers.WhisperConfig(),
            "WhisperForConditionalGeneration",
            "encoder-decoder model",
        ),
        (transformers.MambaConfig(), "MambaForCausalLM", "instead of attention"),
        (
            transformers.Qwen3NextConfig(num_hidden_layers=4),
            "Qwen3NextForCausalLM",
            "recurrent layers",
        ),
        (DeepseekV4Config(), "DeepseekV4ForCausalLM", "compressed attention"),
    ],
    ids=[
        "embedding",
        "encoder-decoder",
        "attention-free",
        "recurrent",
        "compressed",
    ],
)
def test_a_model_that_cannot_be_paused_is_known_by_its_configuration(
    tmp_path: Path, config: transformers.PretrainedConfig, architecture: str, what: str
) -> None:
    path = configuration_of(tmp_path, config, architecture)
    model = ModelConfig(path, skip_tokenizer_init=True)
    (reason,) = model_refusals(model)
    assert what in reason


def test_windows_of_latent_attention_are_known_by_the_type_of_the_model() -> None:
    model = copy.copy(base_config(str(demo_model_path()), 16).model_config)
    model.hf_text_config = SimpleNamespace(model_type="dots3_note")
    (reason,) = model_refusals(model)
    assert "sliding windows of latent attention" in reason


def test_latent_attention_on_a_cpu_gets_advice_that_helps(tmp_path: Path) -> None:
    if torch.cpu._is_amx_tile_supported() or torch.cuda.is_available():
        pytest.skip("vLLM caches prefixes of such models here")
    path = configuration_of(tmp_path, LATENT.configuration(), "DeepseekV2ForCausalLM")
    config = EngineArgs(model=path, skip_tokenizer_init=True).create_engine_config()
    (reason,) = refusals(config)
    assert "multi-head latent attention" in reason
    assert "--no-enable-prefix-caching" not in reason


def one_group(*layers: KVCacheSpec) -> list[KVCacheGroupSpec]:
    """All layers in one group, as vLLM makes it of layers that differ."""
    names = [f"layer{index}" for index in range(len(layers))]
    wrapped = UniformTypeKVCacheSpecs.from_specs(dict(zip(names, layers, strict=True)))
    assert wrapped is not None
    return [KVCacheGroupSpec(names, wrapped)]


@pytest.mark.parametrize(
    "groups",
    [
        [KVCacheGroupSpec(["layer"], ATTENTION)],
        [KVCacheGroupSpec(["layer"], LATENT_ATTENTION)],
        one_group(ATTENTION, replace(ATTENTION, num_kv_heads=1)),
        one_group(LATENT_ATTENTION, replace(LATENT_ATTENTION, head_size=132)),
        one_group(ATTENTION, LATENT_ATTENTION),
    ],
    ids=["full", "latent", "heads by layer", "indexers of MLA", "indexers of full attention"],
)
def test_one_group_is_accepted_whatever_the_sizes_of_its_layers(
    groups: list[KVCacheGroupSpec],
) -> None:
    assert layers_refusal(groups) is None


SIZES = {"block_size": 16, "num_kv_heads": 4, "head_size": 64, "dtype": torch.bfloat16}


@pytest.mark.parametrize(
    ("groups", "what"),
    [
        ([], "0 (none)"),
        ([KVCacheGroupSpec(["a"], ATTENTION), KVCacheGroupSpec(["b"], ATTENTION)], "has 2"),
        (one_group(SlidingWindowSpec(**SIZES, sliding_window=64)), "SlidingWindowSpec"),
        (one_group(ATTENTION, RSWASpec(**SIZES, rswa_window=64)), "RSWASpec"),
        (one_group(ATTENTION, HiddenStateCacheSpec(**SIZES)), "HiddenStateCacheSpec"),
        (one_group(ATTENTION, SinkFullAttentionSpec(**SIZES, sink_len=16)), "SinkFull"),
        (one_group(replace(LATENT_ATTENTION, tokens_per_state=4)), "compressed attention"),
    ],
    ids=["none", "two groups", "window", "R-SWA", "hidden states", "sinks", "compressed"],
)
def test_layers_whose_blocks_do_not_stay_are_refused(
    groups: list[KVCacheGroupSpec], what: str
) -> None:
    reason = layers_refusal(groups)
    assert reason is not None
    assert what in reason
    assert "vllm serve" in reason


@pytest.mark.parametrize(("tokens", "accepted"), [(64, True), (72, False)])
def test_chunks_end_where_blocks_do(tokens: int, accepted: bool) -> None:
    """vLLM takes a context for cached whose chunk begins within a block that it lacks."""
    chunks = ChunkedLocalAttentionSpec(**SIZES, attention_chunk_size=tokens)
    reason = layers_refusal(
        [KVCacheGroupSpec(["a"], ATTENTION), KVCacheGroupSpec(["b"], chunks)],
    )
    assert (reason is None) is accepted
    assert accepted or "--block-size" in (reason or "")


def test_what_windows_cost_is_said_in_numbers() -> None:
    window = SlidingWindowSpec(**SIZES, sliding_window=1000)
    layers = {"a": ATTENTION, "b": window, "c": window, "d": window}
    note = window_note(layers, 10_000)
    assert note is not None
    assert "1000 tokens" in note
    assert f"{40_000 / 13_000:.1f} times" in note
    assert window_note(layers, 1000) is None, "no context is longer than the window"
    assert window_note({"a": ATTENTION}, 10_000) is None


def test_the_size_of_blocks_is_one_for_hashing_and_allocation() -> None:
    config = base_config(str(demo_model_path()), 16)
    caches = kv_cache_config(8, 16)
    check_supported(config, caches, 16, 16)
    for block_size, hash_block_size in ((32, 16), (0, None)):
        with pytest.raises(ConfigurationError, match="--block-size"):
            check_supported(config, caches, block_size, hash_block_size)
