"""A human as a tool."""

import asyncio
from collections.abc import Mapping

from pydantic import JsonValue

from caesura.tools.call import CallEnding
from caesura.tools.context import CallContext
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.failure import AttemptFailed
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import HumanTool

_DESCRIPTION = "Ask the human a question, and wait for the answer."
_SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "minLength": 1, "description": "What to ask."},
        "choices": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Answers to choose from, if there are only some.",
        },
    },
    "required": ["question"],
    "additionalProperties": False,
}


class HumanEndpoint(Endpoint):
    """Puts the model's question to a human.

    Args:
        name: the tool's name.
        settings: its settings.
    """

    def __init__(self, name: str, settings: HumanTool) -> None:
        description = settings.description or _DESCRIPTION
        super().__init__(Definition(name, description, ArgumentSchema(_SCHEMA)), settings)

    @property
    def is_idempotent(self) -> bool:
        """True: asked again after a restart, the same question has the same answer."""
        return True

    @property
    def timeout_seconds(self) -> float:
        """None: what the settings limit is the wait for the answer."""
        return 0

    @property
    def has_own_effects(self) -> bool:
        """False: the question is written down by being asked."""
        return False

    @property
    def asks_human(self) -> bool:
        """True: that is what it does."""
        return True

    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        """Ask, and return the answer."""
        choices = arguments.get("choices")
        options = [str(choice) for choice in choices] if isinstance(choices, list) else []
        limit_seconds = self.settings.timeout_seconds
        try:
            async with asyncio.timeout(limit_seconds or None):
                return await context.ask(str(arguments["question"]), options)
        except TimeoutError:
            raise AttemptFailed(
                f"nobody answered within {limit_seconds:g} seconds", ending=CallEnding.TIMED_OUT
            ) from None
