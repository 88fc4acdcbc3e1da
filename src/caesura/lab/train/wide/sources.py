"""Where the tools of a task's prompt come from."""

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from caesura.errors import ConfigurationError
from caesura.lab.train.wide.random_tools import RandomTools
from caesura.lab.train.wide.tools import SchemaTool


class ToolSource(Protocol):
    """Where the tools of a prompt come from."""

    def draw(self, source: random.Random, count: int, held_out: bool) -> list[SchemaTool]:
        """At most this many different tools, at least one."""
        ...


class MadeUpTools:
    """Tools made up anew for each task."""

    def draw(self, source: random.Random, count: int, held_out: bool) -> list[SchemaTool]:
        """See `ToolSource`."""
        return RandomTools(source, held_out).draw(count)


class OwnTools:
    """The tools of a user. They are the same on both sides of the hold-out.

    Args:
        tools: at least one. Those without a duration get one in most tasks.
    """

    def __init__(self, tools: Iterable[SchemaTool]) -> None:
        self._tools = tuple(tools)
        if not self._tools:
            raise ConfigurationError("there is no tool to train for: give some, or leave them out")

    def draw(self, source: random.Random, count: int, held_out: bool) -> list[SchemaTool]:
        """See `ToolSource`."""
        drawn = source.sample(self._tools, min(count, len(self._tools)))
        guess = RandomTools(source).expected_seconds
        return [
            tool if tool.expected_seconds else replace(tool, expected_seconds=guess())
            for tool in drawn
        ]
