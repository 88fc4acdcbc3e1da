"""Evaluation by interactive rollout: the exported model plays sessions in simulated time."""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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
from caesura.train.simulate import Simulation
from caesura.train.tasks import Task

_MOST_TOKENS = 480
_SHOWN_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Failed:
    """A session that was no success.

    Attributes:
        mistakes: what is wrong.
        transcript: all of it.
    """

    mistakes: tuple[str, ...]
    transcript: str


@dataclass(frozen=True, slots=True)
class Score:
    """Success in one category and mode.

    Attributes:
        mode: of the sessions.
        category: of the tasks.
        held_out: whether values, templates and failures are ones that training never saw.
            Arrival times are always new.
        cases: sessions.
        successes: with the right calls, no others, and the right answer.
        longest_first: with independent calls in the order of their expected durations.
        failures: some that were no success.
    """

    mode: Mode
    category: str
    held_out: bool
    cases: int
    successes: int
    longest_first: int
    failures: tuple[Failed, ...]

    @property
    def success(self) -> float:
        """Share of successes."""
        return self.successes / self.cases

    def as_json(self) -> dict[str, object]:
        """All figures."""
        return {**asdict(self), "success": self.success}


class Evaluation:
    """Evaluates one exported model.

    Args:
        folder: of the model and its tokenizer.
        cases: sessions per category, mode and side of the hold-out.
        seed: of tasks and times.
        dtype: in which it computes.
    """

    def __init__(
        self, folder: Path, cases: int, seed: int, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self._model: DemoModel = load(folder, dtype)
        self._codec = DemoCodec(Tokenizer.from_file(str(folder / "tokenizer.json")))
        self._cases = cases
        self._seed = seed

    def run(
        self,
        categories: Sequence[str] = CATEGORIES,
        modes: Sequence[Mode] = tuple(Mode),
        sides: Sequence[bool] = (False, True),
        on_score: Callable[[Score], None] = lambda score: None,
    ) -> list[Score]:
        """Play all cases."""
        scores = []
        cells = [_Cell(mode, held_out) for mode in modes for held_out in sides]
        for category in categories:
            for cell, played in self._play(category, cells).items():
                scores.append(_score(category, cell, played))
                on_score(scores[-1])
        return scores

    def _play(self, category: str, cells: Sequence["_Cell"]) -> dict["_Cell", list["_Played"]]:
        """All sessions of a category, side by side."""
        tasks: dict[_Cell, list[Task]] = {}
        simulations: dict[_Cell, list[Simulation]] = {}
        for cell in cells:
            source = random.Random(f"{self._seed} {category} {cell.mode} {cell.held_out}")
            draw = TaskSource(source, cell.held_out).draw
            tasks[cell] = [draw(category) for _ in range(self._cases)]
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
                _Played(judge(task, simulation), self._codec.decode(simulation.tokens))
                for task, simulation in zip(tasks[cell], simulations[cell], strict=True)
            ]
            for cell in cells
        }


@dataclass(frozen=True, slots=True)
class _Cell:
    """What is counted together, in one category."""

    mode: Mode
    held_out: bool


@dataclass(frozen=True, slots=True)
class _Played:
    """A session that ended."""

    verdict: Verdict
    transcript: str


def _score(category: str, cell: _Cell, played: Sequence[_Played]) -> Score:
    failed = [
        Failed(session.verdict.mistakes, session.transcript)
        for session in played
        if not session.verdict.succeeded
    ]
    return Score(
        mode=cell.mode,
        category=category,
        held_out=cell.held_out,
        cases=len(played),
        successes=len(played) - len(failed),
        longest_first=sum(session.verdict.longest_first for session in played),
        failures=tuple(failed[:_SHOWN_FAILURES]),
    )
