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
        continuation: how its prompt came about.
        identity: of what the rendering depended on besides the messages.
        messages: digests of the messages rendered; None when the request is left to vLLM.
        has_tools: the model is shown tools; None if that is not known.
        runs: how often the engine was asked to generate.
        prompt_tokens: the prompt, as the engine had it.
        output_tokens: the output so far.
        ended_turn: the output ends with a token that ends the turn.
        complete: the output is whole, and all of it was sent.
        returned: what became of the context that the request came back to.
        first_change: the first message that is not what it was, so that nothing is continued.
        lane: the lane of a socket that it came through; None for others.
    """

    owner: str
    continuation: Continuation = Continuation.NONE
    identity: bytes = b""
    messages: Sequence[MessageDigest] | None = None
    has_tools: bool | None = None
    runs: int = 0
    prompt_tokens: Sequence[int] = ()
    output_tokens: list[int] = field(default_factory=list)
    ended_turn: bool = False
    complete: bool = False
    returned: ContextReturn | None = None
    first_change: int | None = None
    lane: EngineLane | None = None

    def report(self) -> dict[str, object]:
        """What the client gets to know, by name."""
        told: dict[str, object] = {"continuation": str(self.continuation)}
        if self.first_change is not None:
            told["first_change"] = self.first_change
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


def remember(
    transcripts: Transcripts, turn: ClientTurn, answer: Message, response_id: str | None = None
) -> None:
    """Keep what was computed for a turn, unless that is not exactly what its client was shown.

    Args:
        transcripts: where to.
        turn: one with complete prompt and output.
        answer: the assistant's message, as the client got it.
        response_id: how the Responses API refers to it.
    """
    if turn.messages is None or turn.runs != 1 or not turn.complete:
        return
    tokens = array(TOKEN, turn.prompt_tokens)
    tokens.extend(turn.output_tokens)
    kept = digest(answer)
    content = answer.get("content")
    said = isinstance(content, str) and bool(content.strip())
    transcripts.remember(
        ClientTranscript(
            owner=turn.owner,
            key=chain(turn.identity, (*turn.messages, kept))[-1],
            identity=turn.identity,
            tokens=tokens,
            prompt=tuple(turn.messages),
            answer=kept,
            spoken=digest({"role": "assistant", "content": content}).body if said else None,
            calls=_calls(answer),
            ended_turn=turn.ended_turn,
            response_id=response_id,
        )
    )


def _calls(answer: Message) -> tuple[ClientCall, ...]:
    calls = answer.get("tool_calls")
    return tuple(
        ClientCall(id=call["id"], name=call["function"]["name"])
        for call in (calls if isinstance(calls, list) else ())
        if isinstance(call, Mapping)
    )
