"""What the server's HTTP API tells of sessions, as far as a chat needs it."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class EventKind(StrEnum):
    """What is reported of a session; the same as `caesura.session.records.EventType`."""

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


class _Record(BaseModel):
    """Fields that a newer server has beside these are of no interest here."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class ApprovalView(_Record):
    """A question to a human.

    Attributes:
        id: of the question.
        session_id: the session that asks.
        call_id: the call that waits for the answer.
        kind: approval, question or input.
        text: the question.
        tool: the tool that asks, or that wants to run.
        provider: who runs the tool; empty if it is the server itself.
        arguments: the call's.
        choices: of a question, the answers to choose from, if any.
        json_schema: of an input, what the data must fit.
        state: waiting, answered or withdrawn.
    """

    id: str
    session_id: str
    call_id: str = ""
    kind: str
    text: str
    tool: str
    provider: str = ""
    arguments: dict[str, JsonValue] = {}
    choices: tuple[str, ...] = ()
    json_schema: dict[str, JsonValue] | None = Field(default=None, alias="schema")
    state: str

    @property
    def is_waiting(self) -> bool:
        """Whether it can still be answered."""
        return self.state == "waiting"


class SessionView(_Record):
    """A session.

    Attributes:
        id: of the session.
        title: its title, if known.
        phase: generating, calling, idle or ended.
        held: its user has paused it.
        turns: generations begun.
        ending, error: how and why it ended.
        created_at: wall-clock seconds.
        approvals: the questions that wait for a human.
        output_text: its latest complete output.
    """

    id: str
    title: str | None = None
    phase: str
    held: bool
    turns: int = 0
    ending: str | None = None
    error: str | None = None
    created_at: float = 0.0
    approvals: tuple[ApprovalView, ...] = ()
    output_text: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.phase == "ended"


class GivenAnswer(_Record):
    """A human's answer.

    Attributes:
        accepted: False refuses the call, the question or the request for data.
        reason: why it is refused.
        text: the answer to a question.
        content: the data that were asked for.
    """

    accepted: bool
    reason: str | None = None
    text: str | None = None
    content: JsonValue = None


class SessionEvent(_Record):
    """Something that happened in a session.

    Attributes:
        number: rising within the session.
        kind: what happened.
        data: its details.
    """

    number: int
    kind: EventKind
    data: dict[str, JsonValue]

    def text(self, name: str) -> str:
        """A detail that is a text; empty if it is none, or not there."""
        value = self.data.get(name)
        return value if isinstance(value, str) else ""

    def number_of(self, name: str) -> float | None:
        """A detail that is a number, if it is there."""
        value = self.data.get(name)
        return float(value) if isinstance(value, int | float) else None
