"""What requests and answers of the session routes look like."""

import json
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    TypeAdapter,
    field_validator,
    model_validator,
)

from caesura.cml import Mode
from caesura.session.records import (
    ApprovalState,
    CallState,
    EventType,
    Message,
    Phase,
    Protocol,
    SessionEnding,
    SessionSpec,
)
from caesura.tools.call import Answer, QuestionKind

Item = TypeVar("Item")

LARGEST_INTEGER = 2**63 - 1
MOST_TOKENS = 2**31 - 1
MOST_MESSAGES = 2000


def _encodable(text: str) -> str:
    try:
        text.encode()  # neither a tokenizer nor a database takes anything else
    except UnicodeEncodeError as error:
        raise ValueError("text must be Unicode, without lone surrogates") from error
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Names = Annotated[list[Text], Field(fail_fast=True)]


def _proper_json(value: JsonValue) -> JsonValue:
    """The same value, if it is one that every reader of JSON takes, the database among them."""
    try:
        _encodable(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return value


Json = Annotated[JsonValue, AfterValidator(_proper_json)]


def without_nulls(value: object) -> object:
    """A body without the fields that are null: they count as left out."""
    if not isinstance(value, dict):
        return value
    return {name: item for name, item in value.items() if item is not None}


class Body(BaseModel):
    """A request's body. Fields that are not known are refused, and null is none."""

    model_config = ConfigDict(extra="forbid")

    _leave_out_nulls = model_validator(mode="before")(without_nulls)


class TextPart(BaseModel):
    """A part of a message."""

    type: Literal["text", "input_text", "output_text"]
    text: Text


class RefusalPart(BaseModel):
    """What the model said instead of an answer."""

    type: Literal["refusal"]
    refusal: Text

    @property
    def text(self) -> str:
        """The same as a text."""
        return self.refusal


def tag_of(value: Any) -> str:
    """The type of an item or a part, in the brackets that keep it out of the paths of errors."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"[{kind}]"


def form_of(value: Any) -> str:
    """Whether something is a text, or has parts."""
    return "[text]" if isinstance(value, str) else "[list]"


Part = Annotated[
    Annotated[TextPart, Tag("[text]")]
    | Annotated[TextPart, Tag("[input_text]")]
    | Annotated[TextPart, Tag("[output_text]")]
    | Annotated[RefusalPart, Tag("[refusal]")],
    Discriminator(
        tag_of,
        custom_error_type="unsupported_part",
        custom_error_message="sessions take text only: parts of type text, input_text, "
        "output_text or refusal",
    ),
]
Content = Annotated[
    Annotated[Text, Tag("[text]")] | Annotated[list[Part], Field(fail_fast=True), Tag("[list]")],
    Discriminator(form_of),
]


class CalledFunction(BaseModel):
    """The function of a call."""

    name: Text
    arguments: Text = Field(description="Raw JSON.")


class MessageCall(BaseModel):
    """A call in a message of the assistant."""

    id: Text
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(BaseModel):
    """A message as OpenAI's chat format has it; text only."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: Text | None = None
    tool_call_id: Text | None = None
    tool_calls: Annotated[list[MessageCall], Field(fail_fast=True)] | None = None

    @model_validator(mode="after")
    def _check_content(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise ValueError("a message needs content, unless the assistant wrote it")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only messages of the assistant have tool_calls")
        return self


_MESSAGES = TypeAdapter(Annotated[list[ChatMessage], Field(fail_fast=True)])


def checked_messages(messages: list[Message]) -> list[Message]:
    """The same messages.

    Raises:
        ValueError: some message is none of OpenAI's chat format.
    """
    _MESSAGES.validate_python(messages)
    for index, message in enumerate(messages):
        try:
            _proper_json(message)
        except ValueError as error:
            raise ValueError(f"in message {index}: {error}") from error
    return messages


class CreateSession(SessionSpec):
    """A new session."""

    messages: list[Message] = Field(
        fail_fast=True,
        min_length=1,
        max_length=MOST_MESSAGES,
        description="The conversation so far, in OpenAI's chat format; text only.",
        json_schema_extra={"items": ChatMessage.model_json_schema()},
    )
    # As it is asked for: None is the default of the server, and in what is kept all.
    tools: Names | Literal["all"] | None = Field(  # type: ignore[assignment]
        None,
        description="Names of configured tools that the model may call, or `all`; by default the "
        "server's `sessions.default_tools`.",
    )
    made_by: None = Field(None, exclude=True)
    seed: int | None = Field(
        None, ge=-LARGEST_INTEGER, le=LARGEST_INTEGER, description="Seed of the sampler."
    )
    metadata: dict[Text, Text] = Field(default_factory=dict, description="Kept as it is.")
    stream: bool = Field(False, description="Answer with the stream of the session's events.")

    _leave_out_nulls = model_validator(mode="before")(without_nulls)
    _check_messages = field_validator("messages")(checked_messages)

    def spec(self) -> SessionSpec:
        """What the session is made with."""
        said = self.model_dump(exclude={"stream", "tools"}, exclude_unset=True)
        return SessionSpec.model_validate(said)


class NewMessage(Body):
    """A message of the user."""

    content: Text = Field(min_length=1, description="Its text.")


class GivenAnswer(Body):
    """A human's answer to a question."""

    accepted: bool = Field(description="False refuses the call, the question or the request.")
    reason: Text | None = Field(None, description="Why it is refused; the model reads it.")
    text: Text | None = Field(None, description="The answer, to a question.")
    content: Json = Field(None, description="The data, where data are asked for.")

    def answer(self, by: str | None) -> Answer:
        """The answer as sessions take it, with the name of the key that it comes with."""
        return Answer(self.accepted, self.text, self.content, self.reason, by)


class ShownAnswer(GivenAnswer):
    """An answer that was given."""

    by: str | None = Field(None, description="The name of the API key that it was given with.")


class PendingCall(BaseModel):
    """A call whose result the model has not seen."""

    call_id: str
    name: str
    arguments: str = Field(description="Raw JSON, as the model wrote it.")
    state: CallState


class ApprovalObject(BaseModel):
    """A question to a human."""

    id: str
    object: Literal["approval"] = "approval"
    session_id: str
    session_title: str | None = Field(description="The session's title.")
    user_message: str | None = Field(
        description="The latest message of the session's user, at most 2,000 characters."
    )
    call_id: str
    kind: QuestionKind
    text: str = Field(description="The question.")
    tool: str = Field(description="The tool that asks, or that wants to run.")
    provider: str = Field(
        description="Who runs the tool: an MCP server, a host, a function; empty if it is the "
        "server itself."
    )
    arguments: dict[str, JsonValue]
    arguments_text: str = Field(
        description="The same as JSON for a human to read, with the digits that the tool gets; "
        "JavaScript rounds large numbers."
    )
    choices: list[str] = Field(description="For a question: the answers to choose from, if any.")
    schema_: dict[str, JsonValue] | None = Field(
        serialization_alias="schema", description="For data: the JSON schema that they must fit."
    )
    state: ApprovalState
    by_operator: bool = Field(
        description="An operator answers it, whose key may approve, and not the session's owner."
    )
    answer: ShownAnswer | None
    created_at: float
    answered_at: float | None


class SessionObject(BaseModel):
    """A session."""

    id: str
    object: Literal["session"] = "session"
    title: str | None = Field(
        description="`metadata.title`, or the first line of the user's first message, at most 80 "
        "characters."
    )
    phase: Phase
    held: bool = Field(description="Its user has paused it.")
    turns: int = Field(description="Generations begun.")
    ending: SessionEnding | None
    error: str | None
    created_at: float
    updated_at: float
    metadata: dict[str, str]
    tools: list[str] | None = Field(description="The tools it may call; null for all.")
    function_calling: Mode | None = Field(
        description="What happens at a call; null: as the model's own format has it."
    )
    protocol: Protocol | None = Field(description="How the model is told of calls.")
    pending_calls: list[PendingCall]
    approvals: list[ApprovalObject] = Field(description="What it waits for, of humans.")
    output_text: str | None = Field(
        description="Its latest answer, up to the latest call or interrupt if it goes on."
    )


class EventObject(BaseModel):
    """Something that happened in a session; further fields depend on its type."""

    model_config = ConfigDict(extra="allow")

    id: int
    type: EventType
    session_id: str
    created_at: float


class Transcript(BaseModel):
    """All that a session's model has read and written."""

    object: Literal["transcript"] = "transcript"
    session_id: str
    token_ids: list[int]
    items: list[dict[str, Any]] = Field(
        description="Messages; those of the assistant have their calls, and results follow them."
    )


class ListOf(BaseModel, Generic[Item]):
    """A list."""

    object: Literal["list"] = "list"
    data: list[Item]


class Page(ListOf[Item], Generic[Item]):
    """A part of a list."""

    has_more: bool
