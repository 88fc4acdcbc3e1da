"""Which share of the models that agents run on Caesura accepts (docs/results/models.md).

    python benchmarks/accepted_models.py

The models and their sources are in `models.toml`. Each structure is a list of layers as vLLM's
model code declares them; vLLM's own grouping makes KV cache groups of it, as it would under
`caesura serve`, and Caesura's check at start decides. Sizes are of the order of real ones: they do
not matter for the groups. Nothing is loaded.
"""

import copy
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from vllm.config import KVTransferConfig, VllmConfig
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.v1.core.kv_cache_utils import get_kv_cache_groups
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowMLASpec,
    SlidingWindowSpec,
)
from vllm.v1.kv_cache_layout import KVCacheLayout

from caesura.engine.flags import kv_transfer_config
from caesura.engine.support import layers_refusal
from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.sim.vllm_config import base_config

MODELS = Path(__file__).with_name("models.toml")
PAGE = Path(__file__).parents[1] / "docs" / "results" / "models.md"
MARK = "<!-- written by benchmarks/accepted_models.py -->"
BLOCK_SIZE = 64
BF16 = {"block_size": BLOCK_SIZE, "dtype": torch.bfloat16}

FULL = FullAttentionSpec(**BF16, num_kv_heads=8, head_size=128)
LATENT = MLAAttentionSpec(**BF16, num_kv_heads=1, head_size=576)
SLIDING = SlidingWindowSpec(**BF16, num_kv_heads=8, head_size=128, sliding_window=1024)
INDEXER = MLAAttentionSpec(block_size=BLOCK_SIZE, dtype=torch.uint8, num_kv_heads=1, head_size=132)
DRAFT = FullAttentionSpec(**BF16, num_kv_heads=4, head_size=128)
COMPRESSED = replace(LATENT, head_size=512, tokens_per_state=4)


def _state(page_of: KVCacheSpec) -> MambaSpec:
    """A recurrent state in a page as large as that of the attention beside it, as vLLM pads it."""
    return MambaSpec(
        block_size=BLOCK_SIZE,
        shapes=((16, 64, 64),),
        dtypes=(torch.bfloat16,),
        page_size_padded=max(page_of.page_size_bytes, 16 * 64 * 64 * 2),
        mamba_cache_mode="align",
    )


@dataclass(frozen=True)
class Structure:
    """How the layers of a model keep a context.

    Attributes:
        text: in words.
        layers: what repeats.
        refused: why it is refused by the model's configuration already, whatever its layers.
    """

    text: str
    layers: tuple[KVCacheSpec, ...]
    refused: str | None = None


STRUCTURES: Mapping[str, Structure] = {
    "full": Structure("full attention", (FULL,)),
    "latent": Structure("latent attention (MLA)", (LATENT,)),
    "full-indexer": Structure("full attention with sparse indexers", (FULL, INDEXER)),
    "latent-indexer": Structure("MLA with sparse indexers", (LATENT, INDEXER)),
    "sliding-full": Structure("sliding windows and full attention", (SLIDING, SLIDING, FULL)),
    "sliding-convolution": Structure(
        "sliding windows of several sizes (short convolutions) and full attention",
        (SLIDING, FULL, replace(SLIDING, head_size=64, sliding_window=4)),
    ),
    "latent-sliding": Structure(
        "MLA with indexers, and sliding windows of MLA",
        (
            LATENT,
            INDEXER,
            SlidingWindowMLASpec(**BF16, num_kv_heads=1, head_size=576, sliding_window=512),
        ),
    ),
    "recurrent-full": Structure(
        "recurrent state (Mamba, gated delta nets) and full attention",
        (_state(FULL), _state(FULL), _state(FULL), FULL),
    ),
    "recurrent-latent": Structure(
        "recurrent state (KDA) and MLA", (_state(LATENT), _state(LATENT), _state(LATENT), LATENT)
    ),
    "compressed": Structure(
        "compressed MLA, sliding windows and indexers",
        (
            COMPRESSED,
            replace(COMPRESSED, head_size=132),
            SlidingWindowMLASpec(**BF16, num_kv_heads=1, head_size=512, sliding_window=128),
        ),
    ),
    "diffusion": Structure("text by diffusion", (SLIDING, FULL), refused="generates by diffusion"),
}


def engine_config() -> VllmConfig:
    """As `caesura serve` has vLLM make it."""
    config = copy.copy(base_config(str(demo_model_path()), BLOCK_SIZE))
    config.cache_config = copy.copy(config.cache_config)
    config.cache_config.kv_cache_layout = KVCacheLayout.BLHNC.name
    config.scheduler_config = copy.copy(config.scheduler_config)
    transfer = KVTransferConfig(**kv_transfer_config())
    together = KVConnectorFactory.supports_hma_config(transfer)
    config.scheduler_config.disable_hybrid_kv_cache_manager = not together
    return config


def refusal(structure: Structure, *, drafted: bool = False) -> str | None:
    """Why Caesura refuses a model of that structure, None if it does not."""
    if structure.refused is not None:
        return structure.refused
    layers = list(structure.layers) * 8 + [DRAFT] * drafted
    specs = {f"layers.{index}": layer for index, layer in enumerate(layers)}
    try:
        groups = get_kv_cache_groups(engine_config(), specs)
    except (NotImplementedError, TypeError, ValueError):
        return "vLLM cannot keep these layers together"
    return layers_refusal(groups)


@dataclass(frozen=True)
class Model:
    """A model of the list, and how often it counts."""

    name: str
    structure: str
    drafted: bool = False
    count: int = 1

    @property
    def accepted(self) -> bool:
        """Whether Caesura serves it."""
        return refusal(STRUCTURES[self.structure], drafted=self.drafted) is None


def share_table(title: str, models: Iterable[Model]) -> list[str]:
    """Lines of a table of structures, those that are refused first."""
    counts: Counter[tuple[bool, str]] = Counter()
    names: dict[tuple[bool, str], list[str]] = {}
    for model in models:
        key = (model.accepted, model.structure)
        counts[key] += model.count
        names.setdefault(key, []).append(model.name.rpartition("/")[2])
    total, accepted = counts.total(), sum(n for (ok, _), n in counts.items() if ok)
    lines = [
        f"**{title}: {accepted} of {total} accepted ({accepted / total:.0%}).**",
        "",
        "| | structure | count | models |",
        "|---|---|---|---|",
    ]
    for (ok, structure), count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1])):
        verdict = "accepted" if ok else "refused"
        text = STRUCTURES[structure].text
        lines.append(f"| {verdict} | {text} | {count} | {', '.join(names[ok, structure])} |")
    return [*lines, ""]


def tables() -> str:
    """Both tables, in Markdown."""
    listed = tomllib.loads(MODELS.read_text())
    benchmark = [
        Model(row["name"], row["structure"], count=row["configurations"])
        for row in listed["benchmark"]
    ]
    recipes = [
        Model(row["name"], row["structure"], row.get("eagle", False)) for row in listed["recipe"]
    ]
    lines = share_table("Configurations of the public agent benchmark", benchmark)
    lines += share_table("Tool-calling recipes of 2026, 20B parameters or more", recipes)
    return "\n".join(lines)


def main() -> None:
    """Write the tables into the page, behind its mark."""
    before, mark, _ = PAGE.read_text().partition(MARK)
    PAGE.write_text(f"{before}{mark}\n\n{tables()}")


if __name__ == "__main__":
    main()
