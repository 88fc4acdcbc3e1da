"""A model of bytes and CML's markers that follows a plan, on the fake engine.

The latest message of its user is the plan: steps, parted by `|`. A step is text and frames to
write, markers spelled; `?a` waits with traps until the result of call `a` is there, and `=a`
repeats it. What it writes is a function of the transcript alone.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from caesura.cml import (
    FrameRules,
    Interrupt,
    KnownTools,
    Marker,
    Mode,
    Monitor,
    State,
    escape,
    unescape,
)
from caesura.session.call_format import CallFormats
from caesura.session.records import Message
from session.calling.byte_model import EOS, MARKERS, PROMPT, ByteCodec, text_of, written
from session.scripted import encode
from support.engines.fakes import FakeEngine

TRAP = [MARKERS[Marker.TRAP], MARKERS[Marker.END]]
INTR, HEAD, END = (MARKERS[marker] for marker in (Marker.INTR, Marker.HEAD, Marker.END))


class PlannedFormat:
    """`session.CallFormat` in bytes."""

    def __init__(self) -> None:
        self._codec = ByteCodec()

    def interrupts(self, interrupts: Sequence[Interrupt]) -> list[int]:
        return self._codec.interrupts(interrupts)

    def monitor(
        self,
        tools: KnownTools | None,
        used_ids: Iterable[str],
        state: State | None = None,
        before: Sequence[int] = (),
    ) -> Monitor:
        return self._codec.monitor(tools, used_ids, state, before)

    def frame_rules(self, mode: Mode) -> FrameRules:
        return self._codec.frame_rules(mode)

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, object]],
        mode: Mode,
        expected_seconds: Mapping[str, float] | None = None,
    ) -> list[int]:
        return [*(t for m in messages for t in encode(m["role"], m["content"])), PROMPT]

    def grammar(self, tools: Sequence[Mapping[str, object]], mode: Mode) -> str | None:
        return f"{mode} with {len(tools)}"

    def append(
        self, transcript: Sequence[int], messages: Sequence[Message], mode: Mode
    ) -> list[int]:
        return [EOS, *self.prompt(messages, (), mode)]


FORMATS = CallFormats(cml=PlannedFormat())


def engine() -> FakeEngine:
    return FakeEngine(EOS, model, text_of)


def call(call_id: str, name: str, **arguments: object) -> str:
    return f"[CALL]{call_id}[HEAD]{_body(name, arguments)}[END]"


def send_off(name: str, **arguments: object) -> str:
    return f"[CALL]{_body(name, arguments)}[END]"


def _body(name: str, arguments: Mapping[str, object]) -> str:
    return json.dumps({"name": name, "arguments": arguments})


def model(transcript: Sequence[int]) -> int:
    """The next token of what the plan asks for."""
    tokens = list(transcript)
    start = len(tokens) - tokens[::-1].index(PROMPT)
    plan = bytes(t for t in tokens[:start] if t < 256).rpartition(b"\x01user\n")[2]
    results, own = read(tokens[start:])
    done = 0
    for step in plan.rstrip(b"\x02").decode().split("|"):
        if step.startswith("?"):
            while own[done : done + 2] == TRAP:
                done += 2
            if own[done:] == TRAP[:1]:
                return TRAP[1]
            if step[1:] not in results:
                return TRAP[0]
            continue
        if step.startswith("="):
            wanted = list(escape(results.get(step[1:], "nothing")).encode())
        else:
            wanted = _written(step)
        if len(own) - done < len(wanted):
            return wanted[len(own) - done]
        done += len(wanted)
    return EOS


@cache
def _written(text: str) -> list[int]:
    return written(text)


def read(tokens: Sequence[int]) -> tuple[dict[str, str], list[int]]:
    """The interrupts of a turn, and what the model wrote itself."""
    results: dict[str, str] = {}
    own: list[int] = []
    frame: list[int] | None = None
    for token in tokens:
        if token == INTR:
            frame = []
        elif frame is None:
            own.append(token)
        elif token == END:
            head = frame.index(HEAD)
            results[bytes(frame[:head]).decode()] = unescape(bytes(frame[head + 1 :]).decode())
            frame = None
        else:
            frame.append(token)
    return results, own
