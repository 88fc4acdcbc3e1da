"""What is shown of a run, and rollouts on the way."""

from collections.abc import Callable
from typing import Any

from rich.progress import Progress
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from caesura.lab.train.evaluate import Evaluation, Score
from caesura.lab.train.tuning.hugging_face_codec import HuggingFaceCodec
from caesura.lab.train.tuning.settings import TuningSettings
from caesura.lab.train.tuning.suite import TunedSuite, tool_source


class ProgressDisplay(TrainerCallback):
    """Moves a bar, with the latest figures.

    Args:
        progress: with a column for `detail`.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar = progress.add_task("training", total=None, detail="")

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **others: object,
    ) -> None:
        """See transformers."""
        self._progress.update(self._bar, completed=state.global_step, total=state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **others: object,
    ) -> None:
        """See transformers."""
        if logs and "loss" in logs:
            detail = f"loss {float(logs['loss']):.4f}"
            if "mean_token_accuracy" in logs:
                detail += f", tokens right {100 * float(logs['mean_token_accuracy']):.1f} %"
            self._progress.update(self._bar, detail=detail)


class Rollouts(TrainerCallback):
    """Lets the model play held-out sessions every few steps.

    Args:
        settings: of the run.
        codec: of the model.
        report: is given the step and the scores.
    """

    def __init__(
        self,
        settings: TuningSettings,
        codec: HuggingFaceCodec,
        report: Callable[[int, list[Score]], None],
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._report = report

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **others: object,
    ) -> None:
        """See transformers."""
        every = self._settings.evaluate_steps
        if not every or state.global_step % every:
            return
        model.eval()
        suite = TunedSuite(model, self._codec, tool_source(self._settings))
        evaluation = Evaluation(suite, self._settings.evaluate_cases, self._settings.seed)
        scores = evaluation.run(modes=self._settings.modes, sides=(True,))
        model.train()
        self._report(state.global_step, scores)
