"""`planned` for a model that spells CML's markers, whose tokens go across their edges."""

import re
from collections.abc import Iterable, Mapping, Sequence

from caesura.cml import (
    Interrupt,
    KnownTools,
    Mode,
    MonitorSettings,
    State,
    TextMonitor,
    TextRules,
    encode_text,
    escape,
    unescape,
)
from caesura.session.call_format import CallFormats
from caesura.session.calling import DecodedMonitor
from caesura.session.records import Message
from session.calling.byte_model import EOS, PROMPT, STOPS
from session.scripted import encode
from support.engines.fakes import FakeEngine

MERGED = dict(enumerate(("][", "] ", "CALL", "END", "]\n", '"}}[', "][TRAP", " ["), 300))
TRAP = "[TRAP][END]"
INTERRUPT = re.compile(r"\[INTR](.*?)\[HEAD](.*?)\[END]", re.DOTALL)
HALF_MARKER = re.compile(r"\[[A-Z]*$")


def text_of(token: int) -> str:
    return MERGED.get(token) or (chr(token) if token < 256 else "")


class SpelledFormat:
    """`session.CallFormat` in bytes and some more tokens, markers spelled."""

    def interrupts(self, interrupts: Sequence[Interrupt]) -> list[int]:
        return list(encode_text(interrupts).encode("latin-1"))

    def monitor(
        self,
        tools: KnownTools | None,
        used_ids: Iterable[str],
        state: State | None = None,
        before: Sequence[int] = (),
    ) -> DecodedMonitor:
        def decode(token_ids: Sequence[int], final: bool) -> str:
            return "".join(map(text_of, token_ids))

        monitor = TextMonitor(MonitorSettings(tools=tools), used_ids)
        if state is not None:
            monitor.go_on_behind(decode(before, False))
        return DecodedMonitor(monitor, decode)

    def frame_rules(self, mode: Mode) -> TextRules:
        return TextRules(STOPS[mode])

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, object]],
        mode: Mode,
        expected_seconds: Mapping[str, float] | None = None,
    ) -> list[int]:
        return [*(t for m in messages for t in encode(m["role"], m["content"])), PROMPT]

    def append(
        self, transcript: Sequence[int], messages: Sequence[Message], mode: Mode
    ) -> list[int]:
        return [EOS, *self.prompt(messages, (), mode)]


FORMATS = CallFormats(prompted=SpelledFormat())


def engine() -> FakeEngine:
    return FakeEngine(EOS, model, text_of)


def turn_of(transcript: Sequence[int]) -> str:
    """What stands behind the latest prompt."""
    tokens = list(transcript)
    return "".join(map(text_of, tokens[len(tokens) - tokens[::-1].index(PROMPT) :]))


def read(turn: str) -> tuple[dict[str, str], str]:
    """The interrupts of a turn, and what the model wrote itself: half a marker is begun anew."""
    results: dict[str, str] = {}
    own, end = "", 0
    for frame in INTERRUPT.finditer(turn):
        own += HALF_MARKER.sub("", turn[end : frame.start()])
        results[frame[1]] = unescape(frame[2])
        end = frame.end()
    return results, own + turn[end:]


def model(transcript: Sequence[int]) -> int:
    """The next token of what the plan asks for, as long as any."""
    tokens = list(transcript)
    start = len(tokens) - tokens[::-1].index(PROMPT)
    plan = "".join(map(text_of, tokens[:start])).rpartition("\x01user\n")[2].rstrip("\x02")
    results, own = read(turn_of(transcript))
    wanted = ""
    for step in plan.split("|"):
        if step.startswith("?"):
            while own[len(wanted) :].startswith(TRAP):
                wanted += TRAP
            if step[1:] not in results or own[len(wanted) :] in {TRAP[:n] for n in range(1, 11)}:
                wanted += TRAP
                break
        elif step.startswith("="):
            wanted += escape(results.get(step[1:], "nothing"))
        else:
            wanted += step
    missing = wanted.removeprefix(own)
    if not missing:
        return EOS
    return max(
        (token for token in [*MERGED, ord(missing[0])] if missing.startswith(text_of(token))),
        key=lambda token: len(text_of(token)),
    )
