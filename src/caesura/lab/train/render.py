"""Training sequences: the tokens of a simulated session, and which of them the loss covers."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from caesura.cml import Call, Interrupt, Mode, error_content
from caesura.lab.train.oracle import Oracle
from caesura.lab.train.session_codec import SessionCodec
from caesura.lab.train.session_simulation import SimulatedArrival, Simulation
from caesura.lab.train.tasks import Failure, Planned, Task

_UNKNOWN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """One sequence.

    Attributes:
        tokens: prompt and transcript.
        written: for each token, whether the model is to write it.
    """

    tokens: list[int]
    written: list[bool]


class TaskWorld:
    """What a session's calls give and take: the outcomes of a task, in random times.

    Args:
        calls: what the task needs.
        source: of randomness.
    """

    def __init__(self, calls: Sequence[Planned], source: random.Random) -> None:
        self._calls = calls
        self._source = source
        self._attempts = [0] * len(calls)

    def execute(self, call: Call) -> tuple[str, float]:
        """The value of a call, and its execution time, 1 ms to a few seconds."""
        for index, planned in enumerate(self._calls):
            if planned.tool == call.name and planned.arguments == call.arguments:
                attempt = self._attempts[index]
                self._attempts[index] += 1
                outcome = planned.outcomes[min(attempt, len(planned.outcomes) - 1)]
                if isinstance(outcome, Failure):
                    outcome = error_content(outcome.type, outcome.message)
                return outcome, self._seconds(planned.expected_seconds or _UNKNOWN_SECONDS)
        return error_content("not_found", "There is no such thing."), self._seconds(
            _UNKNOWN_SECONDS
        )

    def _seconds(self, expected: float) -> float:
        """Mostly about what is expected; else anything."""
        if self._source.random() < 0.5:
            return expected * math.exp(self._source.gauss(0.0, 0.4))
        return math.exp(self._source.uniform(math.log(0.001), math.log(3.0)))


@dataclass(frozen=True, slots=True)
class Opening:
    """A conversation before the question of a task.

    Attributes:
        sample: its tokens.
        used_ids: ids of calls in it.
    """

    sample: Sample
    used_ids: tuple[str, ...]


_NOTHING = Opening(Sample([], []), ())


def opening_of(task: Task, mode: Mode, codec: SessionCodec, source: random.Random) -> Opening:
    """The turn before a task, as a perfect model writes it; as text, if the task says so."""
    if task.earlier is None:
        return _NOTHING
    simulation = _written(task.earlier, mode, codec, source, _NOTHING)
    if not task.only_text:
        used_ids = tuple(call.id for call in simulation.calls)
        return Opening(Sample(simulation.tokens, simulation.written), used_ids)
    tokens = codec.prompt(task.earlier.question, mode)
    tokens += [*codec.tokenize(simulation.text), codec.eos]
    shown = tuple(call.id for call in simulation.calls if f" {call.id}: " in simulation.text)
    return Opening(Sample(tokens, [False] * len(tokens)), shown)


def simulation_of(
    task: Task, mode: Mode, codec: SessionCodec, source: random.Random, opening: Opening = _NOTHING
) -> Simulation:
    """A session of this task, in which nothing is written yet."""
    mean = math.exp(source.uniform(math.log(0.003), math.log(0.06)))
    messages: tuple[SimulatedArrival, ...] = ()
    if task.steering is not None:
        seconds = source.uniform(0, 60 * mean + 0.5)
        messages = (SimulatedArrival(seconds, Interrupt.steering(task.steering)),)
    return Simulation(
        [*opening.sample.tokens, *codec.prompt(task.question, mode)],
        mode,
        codec,
        TaskWorld(task.calls, source).execute,
        lambda: mean * source.uniform(0.7, 1.3),
        messages,
        opening.used_ids,
    )


def sample_of(task: Task, mode: Mode, codec: SessionCodec, source: random.Random) -> Sample:
    """A session of this task as a perfect model writes it."""
    opening = opening_of(task, mode, codec, source)
    simulation = _written(task, mode, codec, source, opening)
    before = opening.sample.written
    return Sample(simulation.tokens, [*before, *simulation.written[len(before) :]])


def _written(
    task: Task, mode: Mode, codec: SessionCodec, source: random.Random, opening: Opening
) -> Simulation:
    simulation = simulation_of(task, mode, codec, source, opening)
    Oracle(task, mode, codec, opening.used_ids).write(simulation)
    assert not simulation.errors, simulation.errors
    return simulation
