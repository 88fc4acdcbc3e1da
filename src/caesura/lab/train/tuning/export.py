"""What a run leaves: a model that transformers and vLLM load, with its record and its card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caesura.cml import Mode
from caesura.lab.train.evaluate import Score
from caesura.lab.train.tuning.base import Base
from caesura.lab.train.tuning.settings import TuningSettings


def export(model: Any, base: Base, folder: Path) -> None:
    """Write weights (safetensors), tokenizer, chat template and generation settings.

    Args:
        model: trained, without adapters.
        base: what the run began with.
        folder: where to.
    """
    model.config.use_cache = True
    model.to(base.dtype).save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)


def write_card(folder: Path, settings: TuningSettings, scores: Sequence[Score]) -> None:
    """Write the model's card: what it is, how it was made, and how often it is right."""
    (folder / "README.md").write_text(card(settings, scores), "utf-8")


def card(settings: TuningSettings, scores: Sequence[Score]) -> str:
    """The text of the card."""
    names = ", ".join(str(tool["name"]) for tool in settings.tools)
    trained = f"LoRA of rank {settings.lora_rank}" if settings.lora else "all weights"
    lines = [
        "---",
        f"base_model: {settings.base}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [cml, asynchronous-function-calling, caesura]",
        "---",
        "",
        f"# {Path(settings.base).name}, trained for CML",
        "",
        "It calls functions in the middle of its text and reads their results where they arrive "
        "(CML, the protocol of AsyncLM, arXiv 2412.07017). Made with `caesura train`.",
        "",
        f"* Base: `{settings.base}`. Trained: {trained}, and the five markers.",
        f"* Tools: {names or 'made up for each example; held-out ones in the evaluation'}.",
        f"* Modes: {', '.join(settings.modes)}; the chat template's variable `function_calling`.",
        f"* Data: {settings.examples:,} generated sessions, seed {settings.seed}. The loss covers "
        "what the model writes, not prompts and interrupts.",
        "",
        "## Use",
        "",
        "```bash",
        f"caesura serve {Path(settings.base).name}-cml --config tools.toml",
        "```",
        "",
        "## Success by rollout",
        "",
        *_table(scores),
        "",
    ]
    return "\n".join(lines)


def _table(scores: Sequence[Score]) -> list[str]:
    if not scores:
        return ["Not evaluated yet: `caesura train evaluate MODEL`."]
    modes = [mode for mode in Mode if any(score.mode is mode for score in scores)]
    lines = [
        "Percent of sessions with the right calls, no others, and the right answer: on tasks as in "
        f"training / held out; {scores[0].cases} sessions each.",
        "",
        "| category | " + " | ".join(modes) + " |",
        "|---|" + "---|" * len(modes),
    ]
    for category in dict.fromkeys(score.category for score in scores):
        cells = []
        for mode in modes:
            found = [s for s in scores if (s.category, s.mode) == (category, mode)]
            cells.append(" / ".join(f"{100 * score.success:.1f}" for score in found))
        lines.append(f"| {category} | " + " | ".join(cells) + " |")
    return lines
