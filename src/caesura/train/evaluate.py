"""Evaluation by interactive rollout: the exported model plays sessions in simulated time."""

import random
from collections.abc import Callable, Iterator, Sequence
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
        for category in categories:
            for mode in modes:
                for held_out in sides:
                    scores.append(self._score(category, mode, held_out))
                    on_score(scores[-1])
        return scores

    def _score(self, category: str, mode: Mode, held_out: bool) -> Score:
        played = list(self._play(category, mode, held_out))
        failed = [
            Failed(verdict.mistakes, transcript)
            for verdict, transcript in played
            if not verdict.succeeded
        ]
        return Score(
            mode=mode,
            category=category,
            held_out=held_out,
            cases=len(played),
            successes=len(played) - len(failed),
            longest_first=sum(verdict.longest_first for verdict, _ in played),
            failures=tuple(failed[:_SHOWN_FAILURES]),
        )

    def _play(self, category: str, mode: Mode, held_out: bool) -> Iterator[tuple[Verdict, str]]:
        source = random.Random(f"{self._seed} {category} {mode} {held_out}")
        tasks = [TaskSource(source, held_out).draw(category) for _ in range(self._cases)]
        simulations = []
        for task in tasks:
            opening = opening_of(task, mode, self._codec, source)
            simulations.append(simulation_of(task, mode, self._codec, source, opening))
        write_all(self._model, self._codec, simulations, _MOST_TOKENS)
        for task, simulation in zip(tasks, simulations, strict=True):
            yield judge(task, simulation), self._codec.decode(simulation.tokens)
