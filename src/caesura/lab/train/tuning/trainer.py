"""The fine-tuning run itself: TRL's SFTTrainer, and adapters by PEFT."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import Trainer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from caesura.lab.train.tuning.base import Base
from caesura.lab.train.tuning.settings import TuningSettings

_WARMUP_SHARE = 0.03
_KEPT_CHECKPOINTS = 2


def build_trainer(
    base: Base,
    data: Dataset,
    settings: TuningSettings,
    folder: Path,
    callbacks: Sequence[TrainerCallback] = (),
) -> SFTTrainer:
    """The trainer of a run.

    Args:
        base: what is trained; is changed.
        data: `input_ids` and `completion_mask` of each example.
        settings: of the run.
        folder: for checkpoints.
        callbacks: to follow the run.
    """
    on_gpu = torch.cuda.is_available()
    steps = settings.steps or -1
    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=steps,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=_warmup_steps(settings),
        max_length=settings.max_tokens,
        completion_only_loss=True,
        gradient_checkpointing=on_gpu,
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=_KEPT_CHECKPOINTS,
        logging_steps=10,
        logging_first_step=True,
        disable_tqdm=True,
        report_to=[],
        seed=settings.seed,
        data_seed=settings.seed,
    )
    kind = _AdapterTrainer if settings.lora else SFTTrainer
    trainer = kind(
        model=base.model,
        args=arguments,
        train_dataset=data,
        processing_class=base.tokenizer,
        callbacks=list(callbacks),
        peft_config=_adapters(base, settings) if settings.lora else None,
    )
    trainer.remove_callback(_printer())
    return trainer


class _AdapterTrainer(SFTTrainer):
    """With the model's own loss: TRL's reads the output layer's weights, past the markers' rows."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """See transformers."""
        return Trainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)


def merged(trainer: SFTTrainer) -> Any:
    """The trained model, adapters merged into its weights."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


def _adapters(base: Base, settings: TuningSettings) -> LoraConfig:
    """Adapters on all linear layers. Of embeddings and output layer only the markers are trained.

    An output layer that has a bias is trained whole: PEFT trains single rows only without one.
    """
    names = {module: name for name, module in base.model.named_modules()}
    embeddings = names[base.model.get_input_embeddings()].rpartition(".")[2]
    head = base.model.get_output_embeddings()
    rows = {embeddings: list(base.marker_ids)}
    whole = None
    if head is not None and not _is_tied(base.model):
        name = names[head].rpartition(".")[2]
        if getattr(head, "bias", None) is None:
            rows[name] = list(base.marker_ids)
        else:
            whole = [name]
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        trainable_token_indices=rows,
        modules_to_save=whole,
    )


def _is_tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    return bool(head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr())


def _warmup_steps(settings: TuningSettings) -> int:
    per_epoch = settings.examples / (settings.batch_size * settings.accumulate)
    steps = settings.steps or int(per_epoch * settings.epochs)
    return max(1, round(_WARMUP_SHARE * steps))


def _printer() -> type[TrainerCallback]:
    """The callback that would print figures between the lines of the progress display."""
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
