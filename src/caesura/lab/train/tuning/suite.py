"""A fine-tuned model and its tasks, to be evaluated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caesura.lab.train.evaluate import EvaluationCell, PlayedSession
from caesura.lab.train.session_simulation import Simulation
from caesura.lab.train.tuning.base import load_tuned
from caesura.lab.train.tuning.hugging_face_codec import HuggingFaceCodec
from caesura.lab.train.tuning.rollout import write_all
from caesura.lab.train.tuning.settings import TuningSettings, read_settings
from caesura.lab.train.wide.draw import (
    GraphTasks,
    possible_categories,
)
from caesura.lab.train.wide.judge import judge
from caesura.lab.train.wide.sessions import session_of, written
from caesura.lab.train.wide.sources import MadeUpTools, OwnTools, ToolSource
from caesura.lab.train.wide.tasks import GraphTask
from caesura.lab.train.wide.tools import tool_of

_AT_ONCE = 64
_LONGER = 1.5
_FURTHER_TOKENS = 32


class TunedSuite:
    """See `caesura.lab.train.evaluate.Suite`.

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
        self, category: str, cells: Sequence[EvaluationCell], cases: int, seed: int
    ) -> dict[EvaluationCell, list[PlayedSession]]:
        """See `caesura.lab.train.evaluate.Suite`."""
        drawn = [case for cell in cells for case in self._draw(category, cell, cases, seed)]
        # Prompts of like lengths are played together: less of a batch is padding.
        drawn.sort(key=lambda case: len(case.simulation.tokens))
        for start in range(0, len(drawn), _AT_ONCE):
            batch = drawn[start : start + _AT_ONCE]
            most_tokens = max(case.needed_tokens for case in batch)
            simulations = [case.simulation for case in batch]
            write_all(self._model, self._codec, simulations, int(_LONGER * most_tokens))
        played: dict[EvaluationCell, list[PlayedSession]] = {cell: [] for cell in cells}
        for case in drawn:
            transcript = self._codec.decode(case.simulation.tokens)
            played[case.cell].append(PlayedSession(judge(case.task, case.simulation), transcript))
        return played

    def _draw(
        self, category: str, cell: EvaluationCell, cases: int, seed: int
    ) -> Iterator["_Case"]:
        source = cell.source(category, seed)
        tasks = GraphTasks(self._tools, source, cell.held_out)
        for _ in range(cases):
            task = tasks.draw(category)
            perfect = written(task, cell.mode, self._codec, source)
            needed = len(perfect.simulation.tokens) - len(perfect.before) + _FURTHER_TOKENS
            simulation = session_of(task, cell.mode, self._codec, source).simulation
            yield _Case(cell, task, simulation, needed)


@dataclass(frozen=True, slots=True)
class _Case:
    """A session to be played, and how many tokens a perfect model needs, or rather more."""

    cell: EvaluationCell
    task: GraphTask
    simulation: Simulation
    needed_tokens: int


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
