"""Sessions of tasks over JSON-schema tools: as a perfect model writes them, or to be played."""

import math
import random
from dataclasses import dataclass

from caesura.cml import Interrupt, Mode
from caesura.lab.train.render import Sample, TaskWorld
from caesura.lab.train.session_simulation import SimulatedArrival, Simulation
from caesura.lab.train.wide.oracle import GraphOracle
from caesura.lab.train.wide.tasks import GraphTask
from caesura.lab.train.wide.tool_codec import ToolCodec

MODE_WEIGHTS = {Mode.SYNC: 1, Mode.SYNC_PARALLEL: 1, Mode.ASYNC: 2}


@dataclass(frozen=True, slots=True)
class WideSession:
    """A session to be played.

    Attributes:
        simulation: in which the last turn is to be written.
        before: for each token of the prompt, whether the model wrote it in an earlier turn.
        used_ids: ids of the earlier turn's calls.
    """

    simulation: Simulation
    before: tuple[bool, ...]
    used_ids: tuple[str, ...] = ()

    @property
    def sample(self) -> Sample:
        """All tokens so far, and which of them the model wrote in any turn."""
        rest = self.simulation.written[len(self.before) :]
        return Sample(self.simulation.tokens, [*self.before, *rest])


def session_of(task: GraphTask, mode: Mode, codec: ToolCodec, source: random.Random) -> WideSession:
    """A session of this task, in which nothing of its last turn is written yet."""
    used_ids: tuple[str, ...] = ()
    if task.earlier is None:
        prompt = codec.prompt_of(task.question, task.tools, mode)
        before = [False] * len(prompt)
    else:
        earlier = written(task.earlier, mode, codec, source)
        prompt = codec.continued(earlier.sample.tokens, task.question, task.tools, mode)
        before = earlier.sample.written
        before = [*before, *[False] * (len(prompt) - len(before))]
        used_ids = tuple(call.id for call in earlier.simulation.calls)
    mean = math.exp(source.uniform(math.log(0.003), math.log(0.06)))
    messages: tuple[SimulatedArrival, ...] = ()
    if task.steering is not None:
        seconds = source.uniform(0, 60 * mean + 0.5)
        messages = (SimulatedArrival(seconds, Interrupt.steering(task.steering)),)
    simulation = Simulation(
        prompt,
        mode,
        codec,
        TaskWorld(task.calls, source).execute,
        lambda: mean * source.uniform(0.7, 1.3),
        messages,
        used_ids,
    )
    return WideSession(simulation, tuple(before), used_ids)


def written(task: GraphTask, mode: Mode, codec: ToolCodec, source: random.Random) -> WideSession:
    """A session of this task as a perfect model writes it."""
    session = session_of(task, mode, codec, source)
    GraphOracle(task, mode, codec, session.used_ids).write(session.simulation)
    assert not session.simulation.errors, session.simulation.errors
    return session
