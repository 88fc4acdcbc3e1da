"""The demo model and its tasks, to be evaluated."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from caesura.cml import Mode
from caesura.train.decoding import write_all
from caesura.train.demo_model import DemoModel, load
from caesura.train.demo_tasks import CATEGORIES, TaskSource
from caesura.train.demo_tokenizer import DemoCodec
from caesura.train.judge import Verdict, judge
from caesura.train.render import opening_of, simulation_of

_MOST_TOKENS = 480


class DemoSuite:
    """See `caesura.train.evaluate.Suite`.

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
        self, category: str, mode: Mode, held_out: bool, cases: int, source: random.Random
    ) -> Iterator[tuple[Verdict, str]]:
        """See `caesura.train.evaluate.Suite`."""
        tasks = [TaskSource(source, held_out).draw(category) for _ in range(cases)]
        simulations = []
        for task in tasks:
            opening = opening_of(task, mode, self._codec, source)
            simulations.append(simulation_of(task, mode, self._codec, source, opening))
        write_all(self._model, self._codec, simulations, _MOST_TOKENS)
        for task, simulation in zip(tasks, simulations, strict=True):
            yield judge(task, simulation), self._codec.decode(simulation.tokens)
