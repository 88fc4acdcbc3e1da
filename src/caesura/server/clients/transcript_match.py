"""Which remembered transcript a request continues, if its history is the one that was rendered."""

from collections.abc import Sequence
from dataclasses import dataclass

from caesura.server.clients.history import MessageDigest, chain, same_history
from caesura.server.clients.transcripts import ClientTranscript, Transcripts


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks to have rendered.

    Attributes:
        owner: whose request it is.
        identity: of what the rendering depends on besides the messages.
        messages: the digest of each message.
        previous_response: the response that it says it continues.
    """

    owner: str
    identity: bytes
    messages: Sequence[MessageDigest]
    previous_response: str | None = None


@dataclass(frozen=True, slots=True)
class Continued:
    """A transcript that a request continues.

    Attributes:
        transcript: the transcript.
        prompt_messages: how many leading messages of the request its prompt was rendered from.
        new_messages: index of the first message that is new.
    """

    transcript: ClientTranscript
    prompt_messages: int
    new_messages: int


def find_continued(transcripts: Transcripts, asked: Asked) -> Continued | None:
    """The transcript that covers most of the request's history."""
    if asked.previous_response is not None:
        continued = _by_response(transcripts, asked, asked.previous_response)
        if continued is not None:
            return continued
    if not any(message.of_assistant for message in asked.messages):
        return None
    keys = chain(asked.identity, asked.messages)
    for index in range(len(asked.messages) - 2, -1, -1):  # at least one message is new
        if not asked.messages[index].of_assistant:
            continue
        transcript = transcripts.by_history(asked.owner, keys[index + 1])
        if transcript is not None and same_history(asked.messages[: index + 1], transcript.history):
            return Continued(transcript, index, index + 1)
    return None


def _by_response(transcripts: Transcripts, asked: Asked, response_id: str) -> Continued | None:
    """The transcript of a response that is named: its answer need not be among the messages.

    vLLM shows a previous response as its text, and leaves its tool calls out.
    """
    transcript = transcripts.by_response(asked.owner, response_id)
    if transcript is None or transcript.identity != asked.identity:
        return None
    before = len(transcript.prompt)
    if not same_history(asked.messages[:before], transcript.prompt):
        return None
    new = before
    if transcript.spoken is not None:
        shown = asked.messages[before : before + 1]
        if not shown or shown[0].body != transcript.spoken:
            return None
        new += 1
    return Continued(transcript, before, new) if new < len(asked.messages) else None
