"""What was answered, as token ids, and which of it a request continues."""

import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from caesura.server.clients.history import DIGEST_BYTES, MessageDigest, chain, same_history

_BYTES_PER_MESSAGE = 4 * DIGEST_BYTES + 80  # two digests and their objects
_BYTES_PER_TRANSCRIPT = 1000


@dataclass(frozen=True, slots=True)
class ClientCall:
    """A tool call that a client was given.

    Attributes:
        id: what its result refers to.
        name: the tool.
    """

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ClientTranscript:
    """One answer with all that came before it.

    Attributes:
        owner: its owner; nobody else finds it.
        key: of the history that ends with the answer.
        identity: digest of all else that the rendering depended on: model, tools, ...
        tokens: the prompt and the output, as computed.
        prompt: the messages that the prompt was rendered from.
        answer: the assistant's message.
        spoken: digest of that message without its tool calls; None when it says nothing.
        calls: the tool calls in it.
        ended_turn: the output ends with a token that ends the turn; else it was cut off.
        response_id: by which the Responses API refers to it.
    """

    owner: str
    key: bytes
    identity: bytes
    tokens: "array[int]"
    prompt: tuple[MessageDigest, ...]
    answer: MessageDigest
    spoken: bytes | None
    calls: tuple[ClientCall, ...]
    ended_turn: bool
    response_id: str | None = None

    @property
    def history(self) -> Sequence[MessageDigest]:
        """Every message, the answer last."""
        return (*self.prompt, self.answer)

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, about."""
        messages = len(self.prompt) * _BYTES_PER_MESSAGE
        return len(self.tokens) * self.tokens.itemsize + messages + _BYTES_PER_TRANSCRIPT


class Transcripts:
    """Transcripts in memory: the least recently used give way.

    Args:
        max_bytes: how much is kept.
        max_age_seconds: how long a transcript is kept that nobody uses.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        max_bytes: int,
        max_age_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.used_bytes = 0
        self._max_bytes = max_bytes
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        # Least recently used first, each with the time of its last use.
        self._kept: OrderedDict[tuple[str, bytes], tuple[ClientTranscript, float]] = OrderedDict()
        self._of_responses: dict[tuple[str, str], bytes] = {}

    def remember(self, transcript: ClientTranscript) -> None:
        """Keep a transcript; one that is larger than all memory for them is not."""
        if transcript.size_bytes > self._max_bytes:
            return
        place = (transcript.owner, transcript.key)
        if place in self._kept:
            self._forget(place)
        self._kept[place] = (transcript, self._clock())
        self.used_bytes += transcript.size_bytes
        if transcript.response_id is not None:
            self._of_responses[transcript.owner, transcript.response_id] = transcript.key
        self._forget_surplus()

    def by_history(self, owner: str, key: bytes) -> ClientTranscript | None:
        """The owner's transcript that ends with that history."""
        self._forget_surplus()
        kept = self._kept.get((owner, key))
        if kept is None:
            return None
        self._kept[owner, key] = (kept[0], self._clock())
        self._kept.move_to_end((owner, key))
        return kept[0]

    def by_response(self, owner: str, response_id: str) -> ClientTranscript | None:
        """The owner's transcript of that response."""
        key = self._of_responses.get((owner, response_id))
        return None if key is None else self.by_history(owner, key)

    def _forget_surplus(self) -> None:
        too_old = self._clock() - self._max_age_seconds
        while self._kept:
            place, (_, used_seconds) = next(iter(self._kept.items()))
            if self.used_bytes <= self._max_bytes and used_seconds >= too_old:
                return
            self._forget(place)

    def _forget(self, place: tuple[str, bytes]) -> None:
        transcript, _ = self._kept.pop(place)
        self.used_bytes -= transcript.size_bytes
        if transcript.response_id is not None:
            response = (transcript.owner, transcript.response_id)
            if self._of_responses.get(response) == transcript.key:
                del self._of_responses[response]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks to have rendered.

    Attributes:
        owner: the owner of the request.
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
