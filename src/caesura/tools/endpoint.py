"""What runs a tool's calls."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from caesura.tools.context import CallContext
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import CommonSettings


@dataclass(frozen=True, slots=True)
class Definition:
    """A tool as the model sees it.

    Attributes:
        name: its name.
        description: what it does.
        schema: its arguments.
    """

    name: str
    description: str
    schema: ArgumentSchema

    def as_openai(self) -> dict[str, JsonValue]:
        """The definition in OpenAI's format."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": self.schema.document,
            },
        }


class Endpoint(ABC):
    """A tool that can be called.

    Attributes:
        definition: what the model sees.
        settings: how its calls are run.
        slots: must all be had for an attempt.
    """

    def __init__(self, definition: Definition, settings: CommonSettings) -> None:
        self.definition = definition
        self.settings = settings
        limit = settings.max_concurrency
        self.slots: tuple[asyncio.Semaphore, ...] = (asyncio.Semaphore(limit),) if limit else ()

    @property
    def is_idempotent(self) -> bool:
        """Whether running a call twice does no harm."""
        return self.settings.idempotent

    @property
    def timeout_seconds(self) -> float:
        """Longest time of an attempt without progress, 0 for no limit."""
        return self.settings.timeout_seconds

    @property
    def longest_seconds(self) -> float:
        """Longest time of an attempt with progress, 0 for no limit."""
        return self.settings.longest_seconds

    @property
    def has_own_effects(self) -> bool:
        """Whether an attempt may change anything by itself, so that it is written down before."""
        return True

    @property
    def asks_human(self) -> bool:
        """Whether its settings put each call before a human, to approve or to answer it."""
        return bool(self.settings.approve)

    @property
    def provider(self) -> str:
        """Who runs its calls, for a human who decides on one: an MCP server, a host, a function;
        empty if it is this server itself."""
        return ""

    def check(self, arguments: Mapping[str, JsonValue]) -> None:
        """Check arguments before anything is done with them.

        Raises:
            InvalidArguments: they cannot be used.
        """
        self.definition.schema.check(arguments)

    @abstractmethod
    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        """Run an attempt; `arguments` passed `check`.

        Raises:
            AttemptFailed: it gave no result.
        """
