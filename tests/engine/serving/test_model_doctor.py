"""The doctor looks at a model without its weights, and says what the engine would say."""

import json
from pathlib import Path

import pytest
import torch

from caesura.cli.main import run
from caesura.engine.serving.doctor import Finding, Verdict
from caesura.engine.serving.model_doctor import examine_model
from support.models.structures import (
    FULL,
    LATENT,
    RECURRENT,
    SLIDING_AND_FULL,
    SLIDING_ONLY,
    TWO_PAGE_SIZES,
    Structure,
)

BF16_BYTES = 2


def written(folder: Path, structure: Structure, architecture: str) -> str:
    """The configuration of a model, and nothing else of it."""
    config = {**structure.configuration().to_dict(), "architectures": [architecture]}
    (folder / "config.json").write_text(json.dumps(config, default=str))
    return str(folder)


def by_topic(findings: list[Finding]) -> dict[str, Finding]:
    found = {finding.topic: finding for finding in findings}
    assert len(found) == len(findings)
    return found


def examined(
    folder: Path, structure: Structure, architecture: str, *flags: str
) -> dict[str, Finding]:
    path = written(folder, structure, architecture)
    arguments = ["--block-size", "32", "--dtype", "bfloat16", *flags]
    return by_topic(list(examine_model(path, arguments)))


def test_a_plain_model_is_described_in_numbers(tmp_path: Path) -> None:
    found = examined(tmp_path, FULL, "Qwen3ForCausalLM")
    assert found["Layers"].text == "Qwen3ForCausalLM: 2 of full attention (1 KV heads of 64)"
    token_bytes = FULL.elements_per_token * BF16_BYTES
    assert found["KV cache"].text.startswith(f"{token_bytes} B per token; ")
    assert f"holds {2**30 // token_bytes} tokens" in found["KV cache"].text
    assert found["KV groups"].text == "1, of 2 layers"
    assert found["Pauses"].verdict is Verdict.GOOD


def test_a_narrower_kv_cache_takes_less(tmp_path: Path) -> None:
    path = written(tmp_path, FULL, "Qwen3ForCausalLM")
    found = by_topic(list(examine_model(path, ["--kv-cache-dtype", "fp8"])))
    assert found["KV cache"].text.startswith(f"{FULL.elements_per_token} B per token; ")


WINDOWS = pytest.mark.parametrize(
    ("structure", "architecture", "times"),
    [(SLIDING_AND_FULL, "Gemma3ForCausalLM", "2.9"), (TWO_PAGE_SIZES, "Gemma4ForCausalLM", "2.0")],
    ids=["one page size", "two page sizes"],
)


@WINDOWS
def test_windows_have_groups_of_their_own(
    tmp_path: Path, structure: Structure, architecture: str, times: str
) -> None:
    found = examined(tmp_path, structure, architecture)
    assert "4 of sliding window of 64" in found["Layers"].text
    assert found["KV groups"] == Finding(
        "KV groups", Verdict.GOOD, "3, of 2 layers, 2 layers, 2 layers"
    )
    assert found["Pauses"].verdict is Verdict.GOOD


@WINDOWS
def test_what_windows_cost_that_are_kept_whole_is_a_note(
    tmp_path: Path, structure: Structure, architecture: str, times: str
) -> None:
    found = examined(tmp_path, structure, architecture, "--disable-hybrid-kv-cache-manager")
    assert found["KV groups"].verdict is Verdict.NOTE
    assert f"{times} times the KV memory" in found["KV groups"].text
    assert found["Pauses"].verdict is Verdict.GOOD


@pytest.mark.parametrize(
    ("structure", "architecture", "topic", "text"),
    [
        (RECURRENT, "Qwen3NextForCausalLM", "Pauses", "recurrent layers"),
        (SLIDING_ONLY, "MistralForCausalLM", "KV groups", "--disable-sliding-window"),
    ],
    ids=["recurrent", "windows only"],
)
def test_what_cannot_be_paused_is_a_problem(
    tmp_path: Path, structure: Structure, architecture: str, topic: str, text: str
) -> None:
    found = examined(tmp_path, structure, architecture)
    assert found["Layers"].verdict is Verdict.GOOD
    assert found[topic].verdict is Verdict.BAD
    assert text in found[topic].text


def test_the_state_of_a_recurrent_model_does_not_grow(tmp_path: Path) -> None:
    found = examined(tmp_path, RECURRENT, "Qwen3NextForCausalLM")
    assert "per context whatever its length" in found["KV cache"].text


def test_layers_that_cannot_be_built_here_are_told_from_the_configuration(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("their kernels are here")
    indexers = {
        "model_type": "deepseek_v32",
        "index_topk": 64,
        "index_n_heads": 2,
        "index_head_dim": 128,
        "q_lora_rank": 64,
    }
    path = written(tmp_path, LATENT, "DeepseekV32ForCausalLM")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **indexers}))
    found = by_topic(list(examine_model(path)))
    assert found["Layers"].verdict is Verdict.NOTE
    assert "cannot be built here (Sparse Attention" in found["Layers"].text
    assert found["Layers"].text.endswith("2 layers, latent attention of 576")


def test_what_is_no_model_is_a_problem_and_a_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", str(tmp_path)]) == 1
    assert "has no model" in capsys.readouterr().out
