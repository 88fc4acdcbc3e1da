"""Training data of a run: sequences of tokens, and which of them the loss covers."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from caesura.cml import Mode
from caesura.errors import ConfigurationError
from caesura.lab.train.render import Sample
from caesura.lab.train.wide.draw import GraphTasks
from caesura.lab.train.wide.sessions import MODE_WEIGHTS, written
from caesura.lab.train.wide.sources import ToolSource
from caesura.lab.train.wide.tool_codec import ToolCodec

_TRIES = 50
_WEIGHTS = {"no_call": 1, "single": 2, "follow_up": 2}
_USUAL_WEIGHT = 3


@dataclass(frozen=True, slots=True)
class Examples:
    """Draws the examples of a run; each depends on the seed and its number only.

    Attributes:
        codec: of the model.
        tools: where tools come from.
        categories: of the tasks.
        modes: of the sessions.
        seed: of the run.
        most_tokens: longer examples are drawn again.
    """

    codec: ToolCodec
    tools: ToolSource
    categories: Sequence[str]
    modes: Sequence[Mode]
    seed: int
    most_tokens: int

    def draw(self, number: int) -> Sample:
        """The example of this number.

        Raises:
            ConfigurationError: hardly any example is short enough.
        """
        source = random.Random(f"{self.seed} {number}")
        shortest = 0
        for _ in range(_TRIES):
            [mode] = source.choices(self.modes, [MODE_WEIGHTS[mode] for mode in self.modes])
            weights = [_WEIGHTS.get(category, _USUAL_WEIGHT) for category in self.categories]
            [category] = source.choices(self.categories, weights)
            task = GraphTasks(self.tools, source).draw(category)
            sample = written(task, mode, self.codec, source).sample
            if len(sample.tokens) <= self.most_tokens:
                return sample
            shortest = min(shortest or len(sample.tokens), len(sample.tokens))
        raise ConfigurationError(
            f"examples are longer than {self.most_tokens} tokens, the shortest of {_TRIES} has "
            f"{shortest}: raise --max-tokens, or train for fewer tools at a time"
        )

    def rows(self, count: int) -> Iterator[dict[str, list[int]]]:
        """The first examples, in the form that TRL takes: tokens, and the mask of the loss."""
        for number in range(count):
            sample = self.draw(number)
            yield {
                "input_ids": sample.tokens,
                "completion_mask": [int(written) for written in sample.written],
            }
