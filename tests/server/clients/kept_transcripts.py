"""Transcripts for tests."""

from array import array

from caesura.server.clients.history import Message, digest, identity
from caesura.server.clients.transcripts import ClientTranscript, Transcripts
from caesura.server.clients.turns import ClientTurn, remember

IDENTITY = identity("demo", ["get_weather"])


class Clock:
    """Seconds that a test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def memory(max_bytes: int = 10**6, clock: Clock | None = None) -> Transcripts:
    return Transcripts(max_bytes, max_age_seconds=60.0, clock=clock or Clock())


def user(text: str) -> dict[str, object]:
    return {"role": "user", "content": text}


def calling(call_id: str, content: str | None = None) -> dict[str, object]:
    call = {
        "id": call_id,
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Berlin"}'},
    }
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def result(call_id: str) -> dict[str, object]:
    return {"role": "tool", "tool_call_id": call_id, "content": "12 degrees"}


def turn(messages: list[dict[str, object]], owner: str = "alpha", output: int = 3) -> ClientTurn:
    """A turn whose output is whole."""
    served = ClientTurn(
        owner, identity=IDENTITY, messages=[digest(message) for message in messages]
    )
    served.runs = 1
    served.prompt_tokens = range(100)
    served.output_tokens = list(range(output))
    served.complete = served.ended_turn = True
    return served


def keep(
    transcripts: Transcripts,
    messages: list[dict[str, object]],
    *answer: Message,
    owner: str = "alpha",
) -> None:
    remember(transcripts, turn(messages, owner), *answer)


def transcript(name: str, tokens: int = 100) -> ClientTranscript:
    answer = digest({"role": "assistant", "content": name})
    return ClientTranscript(
        owner="alpha",
        key=answer.body,
        identity=IDENTITY,
        tokens=array("i", range(tokens)),
        prompt=(),
        answer=(answer,),
        calls=(),
        ended_turn=True,
    )
