"""A dialogue in bytes and a model that follows it: what it writes is decided by what it has read.

A message is `\\x01ROLE\\n` its text and `\\x02`. A call is written `<<NAME ARGUMENTS>>`. The model
does what the latest message of its user says, one line per turn, and repeats every result.
"""

import re
from collections.abc import Sequence

from caesura.session.dialogue import Output, OutputPart, WrittenCall
from caesura.session.protocol import SamplingDefaults

START, END = 1, 2
ASSISTANT = b"\x01assistant\n"
CALL = re.compile(r"<<(\w+) (.*?)>>")


def encode(role: str, text: str) -> list[int]:
    defused = text.encode().replace(b"\x01", b"?").replace(b"\x02", b"?")
    return [*f"\x01{role}\n".encode(), *defused, END]


class ByteDialogue:
    """`session.Dialogue` in bytes."""

    max_context_tokens = 1_000_000
    sampling = SamplingDefaults()

    def prompt(self, messages, tools) -> list[int]:
        tokens = [token for m in messages for token in encode(m["role"], m["content"])]
        return [*tokens, *ASSISTANT]

    def append(self, transcript, messages) -> list[int]:
        end = [] if transcript[-1] == END else [END]
        return [*end, *self.prompt(messages, ())]

    def reader(self, transcript, tools) -> "ByteReader":
        return ByteReader()


class ByteReader:
    def __init__(self) -> None:
        self._bytes = b""

    @property
    def inside_call(self) -> bool:
        return self._bytes.rpartition(b">>")[2].find(b"<") >= 0

    def feed(self, token_ids: Sequence[int]) -> OutputPart:
        new = bytes(token for token in token_ids if token != END)
        self._bytes += new
        if self.inside_call or self._bytes.endswith(b">>"):
            return OutputPart()
        return OutputPart(new.decode(errors="replace"))

    def finish(self) -> Output:
        text = self._bytes.decode(errors="replace")
        calls = tuple(WrittenCall(name, arguments) for name, arguments in CALL.findall(text))
        return Output(CALL.sub("", text), "", calls)


def model(transcript: Sequence[int]) -> int:
    """The next byte of the answer that the transcript asks for."""
    history, _, written = bytes(transcript).rpartition(ASSISTANT)
    answer = _answer(history)
    return answer[len(written)] if len(written) < len(answer) else END


def _answer(history: bytes) -> bytes:
    messages = [m.partition(b"\n") for m in re.findall(rb"\x01([^\x02]*)\x02", history)]
    users = [index for index, (role, _, _) in enumerate(messages) if role == b"user"]
    plan = messages[users[-1]][2].split(b"\n")
    turns = [role for role, _, _ in messages[users[-1] + 1 :]].count(b"assistant")
    results = [text for role, _, text in messages[users[-1] + 1 :] if role == b"tool"]
    line = plan[turns] if turns < len(plan) else b"done"
    return b"heard: " + b" | ".join(results) + b". " + line
