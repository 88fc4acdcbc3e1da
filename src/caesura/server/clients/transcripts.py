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
        answer: the assistant's message; several where a text follows a call.
        calls: the tool calls in it.
        ended_turn: the output ends with a token that ends the turn; else it was cut off.
    """

    owner: str
    key: bytes
    identity: bytes
    tokens: "array[int]"
    prompt: tuple[MessageDigest, ...]
    answer: tuple[MessageDigest, ...]
    calls: tuple[ClientCall, ...]
    ended_turn: bool

    @property
    def history(self) -> Sequence[MessageDigest]:
        """Every message, the answer last."""
        return (*self.prompt, *self.answer)

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
        self._of_calls: dict[tuple[str, bytes], bytes] = {}  # by answers that call tools

    def remember(self, transcript: ClientTranscript) -> None:
        """Keep a transcript; one that is larger than all memory for them is not."""
        if transcript.size_bytes > self._max_bytes:
            return
        place = (transcript.owner, transcript.key)
        if place in self._kept:
            self._forget(place)
        self._kept[place] = (transcript, self._clock())
        self.used_bytes += transcript.size_bytes
        if transcript.calls:
            self._of_calls[transcript.owner, transcript.answer[0].body] = transcript.key
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

    def by_calls(self, owner: str, answer: MessageDigest) -> ClientTranscript | None:
        """The owner's transcript whose answer begins with that message, whatever was before it.
        It has calls, whose ids no other has."""
        key = self._of_calls.get((owner, answer.body))
        kept = None if key is None else self._kept.get((owner, key))
        return None if kept is None else kept[0]

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
        calls = (transcript.owner, transcript.answer[0].body)
        if self._of_calls.get(calls) == transcript.key:
            del self._of_calls[calls]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks to have rendered.

    Attributes:
        owner: the owner of the request.
        identity: of what the rendering depends on besides the messages.
        messages: the digest of each message.
    """

    owner: str
    identity: bytes
    messages: Sequence[MessageDigest]


def find_continued(transcripts: Transcripts, asked: Asked) -> ClientTranscript | None:
    """The transcript that covers most of the request's history."""
    if not any(message.of_assistant for message in asked.messages):
        return None
    keys = chain(asked.identity, asked.messages)
    for index in range(len(asked.messages) - 2, -1, -1):  # at least one message is new
        if not asked.messages[index].of_assistant:
            continue
        transcript = transcripts.by_history(asked.owner, keys[index + 1])
        if transcript is not None and same_history(asked.messages[: index + 1], transcript.history):
            return transcript
    return None


def first_change(transcripts: Transcripts, asked: Asked) -> int | None:
    """The first message that is not what it was when the conversation was answered last; None if
    none is known to be another."""
    for index in range(len(asked.messages) - 2, -1, -1):
        transcript = None
        if asked.messages[index].of_assistant:
            transcript = transcripts.by_calls(asked.owner, asked.messages[index])
        if transcript is not None:
            pairs = zip(asked.messages, transcript.history, strict=False)
            return next((i for i, (one, kept) in enumerate(pairs) if not one.may_be(kept)), None)
    return None
