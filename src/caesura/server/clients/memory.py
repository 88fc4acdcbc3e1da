"""Remembers a turn as a transcript once its answer is known."""

from array import array
from collections.abc import Mapping

from caesura.server.clients.history import Message, chain, digest
from caesura.server.clients.transcripts import ClientCall, ClientTranscript, Transcripts
from caesura.server.clients.turns import ClientTurn

TOKEN = "i"
"""Array type of token ids, four bytes each."""


def remember(
    transcripts: Transcripts, turn: ClientTurn, answer: Message, response_id: str | None = None
) -> None:
    """Keep what was computed for a turn, unless that is not exactly what its client was shown.

    Args:
        transcripts: where to.
        turn: whose prompt and output are complete.
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
