"""A tool call, how it ended, and what its caller keeps for it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pydantic import JsonValue


class CallEnding(StrEnum):
    """How a call ended. Every call ends in exactly one way."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the tool said so, or could not be reached
    TIMED_OUT = "timed_out"
    REFUSED = "refused"  # by the human
    INVALID = "invalid"  # the arguments are not JSON or do not fit the schema
    UNKNOWN_TOOL = "unknown_tool"
    INTERRUPTED = "interrupted"  # under way when the server died; may have had effects
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call, as the model wrote it.

    Attributes:
        id: unique among the calls of all sessions.
        name: the tool.
        arguments_text: the arguments as raw JSON; an empty text means none.
        session_id: the session that called.
    """

    id: str
    name: str
    arguments_text: str
    session_id: str


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a call gave.

    Attributes:
        call_id: the call's id.
        name: the tool.
        ending: how it ended.
        content: what the model reads: the tool's text, or an error as `caesura.cml.error_content`
            writes it.
        seconds: from the call until here, waiting included.
        attempts: how often the tool was run for it; 0 for cached results and refused calls.
        cached: the content is that of another, identical call.
        cut: the content was longer than the tool's limit.
    """

    call_id: str
    name: str
    ending: CallEnding
    content: str
    seconds: float
    attempts: int = 0
    cached: bool = False
    cut: bool = False


class QuestionKind(StrEnum):
    """What a human is asked for."""

    APPROVAL = "approval"  # may this call run?
    QUESTION = "question"  # a text, or one of several choices
    INPUT = "input"  # data that fit a schema


@dataclass(frozen=True, slots=True)
class Question:
    """Something that a human must say before a call can go on.

    Attributes:
        key: the same for the same question of the same call, also after a restart.
        session_id: the session that called.
        call_id: the call.
        kind: what is asked for.
        text: the question.
        tool: the tool that asks, or that wants to run.
        arguments: the call's arguments.
        choices: suggested answers, for `QuestionKind.QUESTION`.
        schema: JSON schema of the answer's content, for `QuestionKind.INPUT`.
        provider: who runs the tool; see `Endpoint.provider`.
        by_operator: an operator answers it, not the owner of the session.
    """

    key: str
    session_id: str
    call_id: str
    kind: QuestionKind
    text: str
    tool: str
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    schema: Mapping[str, JsonValue] | None = None
    provider: str = ""
    by_operator: bool = False

    @property
    def arguments_text(self) -> str:
        """The arguments as JSON for a human to read, a value a line, with all their digits."""
        return json.dumps(self.arguments, indent=2, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a human said.

    Attributes:
        accepted: False if it was refused: the call, the question or the request for data.
        text: the answer to a question.
        content: the data that were asked for.
        reason: why it was refused; the model reads it.
        by: the name of the API key that it was given with.
    """

    accepted: bool
    text: str | None = None
    content: JsonValue = None
    reason: str | None = None
    by: str | None = None


class CallJournal(Protocol):
    """What the caller of a tool keeps, so that a crash loses neither calls nor answers.

    Attributes:
        owner: whose calls these are: kept results serve calls of one owner only.
    """

    owner: str

    async def dispatching(self, call: ToolCall, attempt: int) -> None:
        """Write down that an attempt (1, 2, ...) is about to have effects; it starts on return."""
        ...

    async def ask(self, question: Question) -> Answer:
        """Wait for a human's answer; the same key gives the same answer."""
        ...

    def progress(
        self,
        call: ToolCall,
        fraction: float | None,
        remaining_seconds: float | None,
        message: str | None,
    ) -> None:
        """Note how far a call is; called on the event loop's thread, and must not block."""
        ...
