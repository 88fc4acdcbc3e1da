"""The demo model and its tasks, to be evaluated."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from caesura.lab.train.decoding import write_all
from caesura.lab.train.demo_model import DemoModel, load
from caesura.lab.train.demo_tasks import CATEGORIES, TaskSource
from caesura.lab.train.demo_tokenizer import DemoCodec
from caesura.lab.train.evaluate import EvaluationCell, PlayedSession
from caesura.lab.train.judge import judge
from caesura.lab.train.render import opening_of, simulation_of
from caesura.lab.train.session_simulation import Simulation
from caesura.lab.train.tasks import Task

_MOST_TOKENS = 480


class DemoSuite:
    """See `caesura.lab.train.evaluate.Suite`.

    Args:
        folder: of the model and its tokenizer.
        dtype: in which it computes.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
        self._model: DemoModel = load(folder, dtype)
        self._codec = DemoCodec(Tokenizer.from_file(str(folder / "tokenizer.json")))

    @property
    def categories(self) -> Sequence[str]:
        """Kinds of tasks."""
        return CATEGORIES

    def play(
        self, category: str, cells: Sequence[EvaluationCell], cases: int, seed: int
    ) -> dict[EvaluationCell, list[PlayedSession]]:
        """See `caesura.lab.train.evaluate.Suite`."""
        tasks: dict[EvaluationCell, list[Task]] = {}
        simulations: dict[EvaluationCell, list[Simulation]] = {}
        for cell in cells:
            source = cell.source(category, seed)
            draw = TaskSource(source, cell.held_out).draw
            tasks[cell] = [draw(category) for _ in range(cases)]
            simulations[cell] = [
                simulation_of(
                    task,
                    cell.mode,
                    self._codec,
                    source,
                    opening_of(task, cell.mode, self._codec, source),
                )
                for task in tasks[cell]
            ]
        everything = list(itertools.chain.from_iterable(simulations.values()))
        write_all(self._model, self._codec, everything, _MOST_TOKENS)
        return {
            cell: [
                PlayedSession(judge(task, simulation), self._codec.decode(simulation.tokens))
                for task, simulation in zip(tasks[cell], simulations[cell], strict=True)
            ]
            for cell in cells
        }
