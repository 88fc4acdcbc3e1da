"""What is written down about a server-run session."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from caesura.cml import AtEnd, Mode
from caesura.session.protocol import Sampling, SamplingDefaults
from caesura.tools.call import Answer, CallResult, Question, ToolCall

Message = dict[str, JsonValue]
"""A chat message as OpenAI writes it: `role`, `content`, and so on."""


class Phase(StrEnum):
    """What a session does, or waits for."""

    GENERATING = "generating"
    CALLING = "calling"  # paused: calls are under way, or wait for a human
    IDLE = "idle"  # paused: it has answered, and waits for its user
    ENDED = "ended"


class SessionEnding(StrEnum):
    """How a session ended. Every session ends in exactly one way."""

    COMPLETED = "completed"  # it answered, and was not to be kept open
    CANCELLED = "cancelled"
    FAILED = "failed"  # see its error
    LIMIT = "limit"  # of turns, or of the model's context
    EXPIRED = "expired"  # idle for longer than sessions are kept


class Protocol(StrEnum):
    """The format in which a model writes calls and reads results."""

    NATIVE = "native"  # its own tool-call format; a turn ends with its calls
    CML = "cml"  # markers that are tokens (docs/reference/cml.md)
    FUTURES = "futures"  # its own tool-call format; a call is answered with a future


INSTEAD_OF_CML = (
    "use the model's own tool calls (protocol native, or futures for async), or a model trained "
    "with `caesura train`"
)
NO_PROMPTED = f"protocol prompted, CML spelled as text, was removed: {INSTEAD_OF_CML}"


def _not_removed(protocol: object) -> object:
    if protocol == "prompted":
        raise ValueError(NO_PROMPTED)
    return protocol


AskedProtocol = Annotated[Protocol, BeforeValidator(_not_removed)]
"""A protocol in a request; for one that was removed, the error names its successor."""


class SampledFields(BaseModel):
    """How tokens are sampled; the served model's defaults apply to fields that are not set."""

    temperature: float | None = Field(None, ge=0.0, le=2.0, description="0 is greedy.")
    top_p: float | None = Field(
        None, gt=0.0, le=1.0, description="Sample from the likeliest tokens of this sum."
    )
    top_k: int | None = Field(
        None, ge=-1, le=2**31 - 1, description="Sample from so many tokens; 0 or -1: from all."
    )
    min_p: float | None = Field(
        None, ge=0.0, le=1.0, description="Leave out tokens below this share of the likeliest."
    )
    repetition_penalty: float | None = Field(
        None, gt=0.0, le=100.0, description="Above 1 against tokens of the context."
    )
    presence_penalty: float | None = Field(
        None, ge=-2.0, le=2.0, description="Above 0 against tokens of the turn."
    )
    frequency_penalty: float | None = Field(
        None, ge=-2.0, le=2.0, description="The same, by how often they occur."
    )


SAMPLED = tuple(SampledFields.model_fields)


class SessionSpec(SampledFields):
    """What a session is created with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: list[Message] = Field(min_length=1, description="The conversation so far.")
    tools: list[str] | None = Field(
        None, description="Names of configured tools that the model may call; all by default."
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        le=2**31 - 1,
        description="Tokens generated per turn at most; by default as many as the context has room "
        "for. Defaults of this and of how tokens are sampled are the served model's own, or those "
        "of `--override-generation-config`, as for all other routes.",
    )
    seed: int | None = Field(None, description="Seed of the sampler.")
    model: str | None = Field(
        None,
        description="Name of the model, or of an adapter of it (LoRA) that generates in its place; "
        "by default the model.",
    )
    function_calling: Mode | None = Field(
        None,
        description="What happens at a call: `sync`, the session pauses until its result is there; "
        "`sync_parallel`, calls that follow each other run together, and the session pauses until "
        "all are there; `async`, the model goes on, and results come as interrupts. By default as "
        "the server's `sessions.function_calling` says, or as the model's own format has it.",
    )
    protocol: AskedProtocol | None = Field(
        None,
        description="How the model is told of that; by default the server's `sessions.protocol`.",
    )
    at_end: AtEnd | None = Field(
        None,
        description="Calls that are pending when the model of an asynchronous session ends its "
        "answer: `wait`, it reads their results and goes on; `leave`, the answer is complete. By "
        "default as each tool says.",
    )
    max_pending_calls: int = Field(
        64, ge=1, le=1024, description="Calls of an asynchronous session without a result, at most."
    )
    max_turns: int = Field(64, ge=1, le=10_000, description="Generations at most.")
    keep_open: bool = Field(
        True, description="After an answer wait for the user; otherwise the session ends."
    )
    attached: bool = Field(
        False, description="It is cancelled when the server starts again: nobody would read it."
    )
    metadata: dict[str, str] = Field(default_factory=dict, description="Kept as it is.")
    made_by: str | None = Field(None, description="The name of the API key that has made it.")

    def settled(self, defaults: SamplingDefaults, context_tokens: int) -> Self:
        """The same with everything said about how it is sampled, as it stays for its life.

        Args:
            defaults: of the served model.
            context_tokens: how long a context may get, or less: tokens of a turn at most, where
                the request does not say.
        """
        said = {name: getattr(self, name) for name in SAMPLED}
        filled = {
            name: getattr(defaults, name) if value is None else value
            for name, value in said.items()
        }
        advised = min(defaults.max_tokens or context_tokens, context_tokens)
        tokens = self.max_tokens or advised
        return self.model_copy(
            update={**filled, "max_tokens": min(tokens, defaults.most_tokens or tokens)}
        )

    @property
    def turn_tokens(self) -> int:
        """Tokens generated per turn at most, once that is settled."""
        assert self.max_tokens is not None, "the specification is not settled"
        return self.max_tokens

    def sampling(self) -> Sampling:
        """How its turns are generated; what is not said, in sessions that older versions made, is
        neutral."""
        given = {name: value for name in SAMPLED if (value := getattr(self, name)) is not None}
        given = {"temperature": 1.0, **given}
        return Sampling(self.turn_tokens, seed=self.seed, adapter=self.model, **given)


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as it is stored.

    Attributes:
        id: unguessable.
        owner: its owner; nobody else sees it.
        spec: what it was created with.
        phase: what it does.
        held: its user has paused it.
        turns: generations begun.
        ending: how it ended, in phase `ENDED`.
        error: why, for people.
        next_event: no event has this number or a higher one.
        created_seconds, updated_seconds: wall-clock time.
    """

    id: str
    owner: str
    spec: SessionSpec
    phase: Phase
    held: bool
    turns: int
    ending: SessionEnding | None
    error: str | None
    next_event: int
    created_seconds: float
    updated_seconds: float


class CallState(StrEnum):
    """How far a call is."""

    ISSUED = "issued"  # nothing has been done for it
    DISPATCHED = "dispatched"  # it may have had effects
    DONE = "done"  # its result is written
    DELIVERED = "delivered"  # the model has it, or will never read it


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call of a session.

    Attributes:
        call: the call.
        turn: the generation that made it.
        position: among the calls of that turn, from 0.
        state: how far it is.
        attempts: how often its tool was run.
        result: once it is done.
        label: how the model names it, where calls have names: an id of CML, a future.
    """

    call: ToolCall
    turn: int
    position: int
    state: CallState = CallState.ISSUED
    attempts: int = 0
    result: CallResult | None = None
    label: str | None = None


class ApprovalState(StrEnum):
    """Whether a human has answered."""

    WAITING = "waiting"
    ANSWERED = "answered"
    WITHDRAWN = "withdrawn"  # its session ended first


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """A question to a human.

    Attributes:
        question: what is asked; its key is the approval's id.
        owner: of its session.
        state: whether it was answered.
        answer: once it was.
        created_seconds, answered_seconds: wall-clock time.
    """

    question: Question
    owner: str
    state: ApprovalState
    answer: Answer | None
    created_seconds: float
    answered_seconds: float | None


class EventType(StrEnum):
    """What is reported of a session."""

    CREATED = "session.created"
    PHASE = "session.phase"
    ENDED = "session.ended"
    MESSAGE = "message.added"
    TEXT = "output.text.delta"
    REASONING = "output.reasoning.delta"
    OUTPUT = "output.done"
    RESTARTED = "output.restarted"
    TRAPPED = "session.trapped"
    INJECTED = "interrupt.injected"
    CALL = "call.issued"
    DISPATCHED = "call.dispatched"
    PROGRESS = "call.progress"
    RESULT = "call.done"
    ASKED = "approval.requested"
    ANSWERED = "approval.answered"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a session.

    Attributes:
        number: rising within the session; a stream can be resumed after it.
        type: what happened.
        data: its details, as JSON values.
        seconds: wall-clock time.
    """

    number: int
    type: EventType
    data: dict[str, JsonValue] = field(default_factory=dict)
    seconds: float = 0.0
