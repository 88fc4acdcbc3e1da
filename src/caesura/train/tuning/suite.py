"""A fine-tuned model and its tasks, to be evaluated."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from caesura.cml import Mode
from caesura.train.judge import Verdict
from caesura.train.tuning.base import load_tuned
from caesura.train.tuning.codec import HuggingFaceCodec
from caesura.train.tuning.rollout import write_all
from caesura.train.tuning.settings import TuningSettings, read_settings
from caesura.train.wide.draw import (
    GraphTasks,
    MadeUpTools,
    OwnTools,
    ToolSource,
    possible_categories,
)
from caesura.train.wide.judge import judge
from caesura.train.wide.sessions import session_of, written
from caesura.train.wide.tasks import GraphTask
from caesura.train.wide.tools import tool_of

_AT_ONCE = 32
_LONGER = 1.5
_FURTHER_TOKENS = 32


class TunedSuite:
    """See `caesura.train.evaluate.Suite`.

    Args:
        model: a causal language model of transformers.
        codec: of the model.
        tools: where the tools of tasks come from.
    """

    def __init__(self, model: Any, codec: HuggingFaceCodec, tools: ToolSource) -> None:
        self._model = model
        self._codec = codec
        self._tools = tools
        self._categories = possible_categories(tools)

    @property
    def categories(self) -> Sequence[str]:
        """The kinds of tasks that the tools admit."""
        return self._categories

    def play(
        self, category: str, mode: Mode, held_out: bool, cases: int, source: random.Random
    ) -> Iterator[tuple[Verdict, str]]:
        """See `caesura.train.evaluate.Suite`."""
        drawn = GraphTasks(self._tools, source, held_out)
        for start in range(0, cases, _AT_ONCE):
            tasks = [drawn.draw(category) for _ in range(min(_AT_ONCE, cases - start))]
            sessions = [session_of(task, mode, self._codec, source) for task in tasks]
            simulations = [session.simulation for session in sessions]
            write_all(self._model, self._codec, simulations, self._most_tokens(tasks, mode))
            for task, simulation in zip(tasks, simulations, strict=True):
                yield judge(task, simulation), self._codec.decode(simulation.tokens)

    def _most_tokens(self, tasks: Sequence[GraphTask], mode: Mode) -> int:
        """What is enough for these tasks: rather more than a perfect model needs."""
        source = random.Random(0)
        needed = 0
        for task in tasks:
            perfect = written(task, mode, self._codec, source)
            tokens = perfect.simulation.tokens
            needed = max(needed, len(tokens) - len(perfect.before))
        return int(_LONGER * needed) + _FURTHER_TOKENS


def tool_source(settings: TuningSettings) -> ToolSource:
    """The user's tools, or ones that are made up."""
    return OwnTools(map(tool_of, settings.tools)) if settings.tools else MadeUpTools()


def tuned_suite(folder: Path) -> TunedSuite:
    """The suite of an exported model.

    Raises:
        ConfigurationError: it is no such model.
    """
    settings = read_settings(folder)
    model, codec = load_tuned(folder)
    return TunedSuite(model, codec, tool_source(settings))
