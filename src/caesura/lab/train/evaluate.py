"""Evaluation by interactive rollout: a trained model plays sessions in simulated time."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from caesura.cml import Mode
from caesura.lab.train.judge import SessionVerdict

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


@dataclass(frozen=True, slots=True)
class EvaluationCell:
    """What is counted together, in one category.

    Attributes:
        mode: of the sessions.
        held_out: see `Score`.
    """

    mode: Mode
    held_out: bool

    def source(self, category: str, seed: int) -> random.Random:
        """Randomness of the cell's tasks and times."""
        return random.Random(f"{seed} {category} {self.mode} {self.held_out}")


@dataclass(frozen=True, slots=True)
class PlayedSession:
    """A session that ended.

    Attributes:
        verdict: what is to be said of it.
        transcript: all of it.
    """

    verdict: SessionVerdict
    transcript: str


class Suite(Protocol):
    """A model, and the tasks for which it was trained."""

    @property
    def categories(self) -> Sequence[str]:
        """Kinds of tasks."""
        ...

    def play(
        self, category: str, cells: Sequence[EvaluationCell], cases: int, seed: int
    ) -> dict[EvaluationCell, list[PlayedSession]]:
        """Play sessions of a category, side by side: this many of each cell."""
        ...


class Evaluation:
    """Evaluates one model.

    Args:
        suite: the model and its tasks.
        cases: sessions per category, mode and side of the hold-out.
        seed: of tasks and times.
    """

    def __init__(self, suite: Suite, cases: int, seed: int) -> None:
        self._suite = suite
        self._cases = cases
        self._seed = seed

    def run(
        self,
        categories: Sequence[str] | None = None,
        modes: Sequence[Mode] = tuple(Mode),
        sides: Sequence[bool] = (False, True),
        on_score: Callable[[Score], None] = lambda score: None,
    ) -> list[Score]:
        """Play all cases; by default of all categories."""
        scores = []
        cells = [EvaluationCell(mode, held_out) for mode in modes for held_out in sides]
        for category in self._suite.categories if categories is None else categories:
            played = self._suite.play(category, cells, self._cases, self._seed)
            for cell in cells:
                scores.append(_score(category, cell, played[cell]))
                on_score(scores[-1])
        return scores


def _score(category: str, cell: EvaluationCell, played: Sequence[PlayedSession]) -> Score:
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
