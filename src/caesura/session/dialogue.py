"""The seam between a session's messages and a model's tokens.

A `Dialogue` knows the model's chat template and the format of its tool calls; the one on vLLM is
`caesura.engine.dialogue`. Nothing that has been generated is ever rendered again: what is new is
rendered after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from caesura.session.protocol import SamplingDefaults
from caesura.session.records import Message


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A tool call as the model wrote it.

    Attributes:
        name: the tool, if there is one of that name.
        arguments_text: raw JSON, or what the model took for it.
    """

    name: str
    arguments_text: str


@dataclass(frozen=True, slots=True)
class OutputPart:
    """What the latest tokens add.

    Attributes:
        text: to the answer.
        reasoning: to the reasoning before it.
    """

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """All that a turn has generated.

    Attributes:
        text: the answer; empty if there is none.
        reasoning: the reasoning before it.
        calls: tool calls in order.
    """

    text: str
    reasoning: str
    calls: tuple[WrittenCall, ...]


class OutputReader(Protocol):
    """Reads the tokens of one turn as they are generated."""

    @property
    def inside_call(self) -> bool:
        """Whether a tool call has begun: nothing may be injected now."""
        ...

    def feed(self, token_ids: Sequence[int]) -> OutputPart:
        """Take the next tokens."""
        ...

    def finish(self) -> Output:
        """The turn is over: all of it, what was held back included."""
        ...


class Dialogue(Protocol):
    """Messages to tokens and tokens to messages, for one model.

    Control tokens in what users and tools say lose their meaning: they cannot forge a turn. May
    be called from several threads, readers excepted.

    Attributes:
        max_context_tokens: no conversation may get as long as this.
        sampling: how the model is sampled where nobody says.
    """

    max_context_tokens: int
    sampling: SamplingDefaults

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[dict[str, JsonValue]]
    ) -> list[int]:
        """Tokens of a conversation, up to where the model answers.

        Args:
            messages: the conversation.
            tools: definitions of the tools that may be called, as OpenAI writes them.

        Raises:
            ValueError: the chat template refuses the messages; says why.
        """
        ...

    def append(self, transcript: Sequence[int], messages: Sequence[Message]) -> list[int]:
        """Tokens that append messages to what was generated, up to where the model answers.

        Args:
            transcript: all tokens so far; it ends in the model's turn, complete or not.
            messages: tool results and messages of the user.
        """
        ...

    def reader(
        self, transcript: Sequence[int], tools: Sequence[dict[str, JsonValue]]
    ) -> OutputReader:
        """A reader for the turn that continues the transcript."""
        ...
