"""A client's request while it is served, and how its turn is remembered in the end."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from caesura.server.clients.history import Message, MessageDigest, chain, digest
from caesura.server.clients.lanes import EngineLane
from caesura.server.clients.transcripts import ClientCall, ClientTranscript, Transcripts
from caesura.session.homes import Home
from caesura.session.returns import ContextReturn


class Continuation(StrEnum):
    """How a request's prompt came about."""

    NONE = "none"  # it continues nothing that is remembered
    RENDERED = "rendered"  # the chat template's rendering begins with the remembered tokens
    TRANSCRIPT = "transcript"  # it does not: the remembered tokens were taken
    RERENDERED = "rerendered"  # neither was possible: the template's rendering, history and all


@dataclass(slots=True)
class ClientTurn:
    """A request of the chat, responses or messages route.

    Attributes:
        owner: the owner of the request.
        session_id: the conversation, as the client names it.
        keep_seconds: for how long the client wants its context kept.
        continuation: how its prompt came about.
        identity: of what the rendering depended on besides the messages.
        messages: digests of the messages rendered; None when the request is left to vLLM.
        has_tools: the model is shown tools; None if that is not known.
        runs: how often the engine was asked to generate.
        prompt_tokens: the prompt, as the engine had it.
        output_tokens: the output so far.
        ended_turn: the output ends with a token that ends the turn.
        complete: the output is whole, and all of it was sent.
        calls_written: tool calls in the output; its client may be shown fewer.
        returned: what became of the context that the request came back to.
        first_change: the first message that is not what it was, so that nothing is continued.
        lane: the lane of a socket that it came through; None for others.
        home: where it runs; None where there is one engine.
    """

    owner: str
    session_id: str | None = None
    keep_seconds: float | None = None
    continuation: Continuation = Continuation.NONE
    identity: bytes = b""
    messages: Sequence[MessageDigest] | None = None
    has_tools: bool | None = None
    runs: int = 0
    prompt_tokens: Sequence[int] = ()
    output_tokens: list[int] = field(default_factory=list)
    ended_turn: bool = False
    complete: bool = False
    calls_written: int = 0
    returned: ContextReturn | None = None
    first_change: int | None = None
    lane: EngineLane | None = None
    home: Home | None = None

    def report(self) -> dict[str, object]:
        """What the client gets to know, by name."""
        told: dict[str, object] = {"continuation": str(self.continuation)}
        if self.first_change is not None:
            told["first_change"] = self.first_change
        if self.home is not None:
            told["engine"] = self.home.engine
        return told | (asdict(self.returned) if self.returned is not None else {})


_current: ContextVar[ClientTurn | None] = ContextVar("caesura_turn", default=None)


def current_turn() -> ClientTurn | None:
    """The turn that this task works for; None for other routes."""
    return _current.get()


@contextmanager
def serving(turn: ClientTurn) -> Iterator[None]:
    """Within it, and in every task started there, `turn` is the current one."""
    token = _current.set(turn)
    try:
        yield
    finally:
        _current.reset(token)


TOKEN = "i"
"""Array type of token ids, four bytes each."""


def remember(transcripts: Transcripts, turn: ClientTurn, *answer: Message) -> None:
    """Keep what was computed for a turn, unless that is not exactly what its client was shown.

    Args:
        transcripts: where to.
        turn: one with complete prompt and output.
        answer: the assistant's messages, as the client got them.
    """
    if turn.messages is None or turn.runs != 1 or not turn.complete or not answer:
        return
    tokens = array(TOKEN, turn.prompt_tokens)
    tokens.extend(turn.output_tokens)
    kept = tuple(map(digest, answer))
    calls = tuple(call for message in answer for call in _calls(message))
    if turn.calls_written > len(calls):
        return
    transcripts.remember(
        ClientTranscript(
            owner=turn.owner,
            key=chain(turn.identity, (*turn.messages, *kept))[-1],
            identity=turn.identity,
            tokens=tokens,
            prompt=tuple(turn.messages),
            answer=kept,
            calls=calls,
            ended_turn=turn.ended_turn,
        )
    )


def _calls(answer: Message) -> Iterator[ClientCall]:
    calls = answer.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, Mapping):
            yield ClientCall(id=call["id"], name=call["function"]["name"])
