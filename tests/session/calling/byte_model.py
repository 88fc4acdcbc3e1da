"""A model of bytes and markers that writes a script, on the fake engine.

Its next token is a function of the transcript: it skips prompts and interrupts, and writes the
script's token at that place, whatever came between.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import takewhile

from caesura.cml import (
    CallStop,
    FrameRules,
    IncrementalDecoder,
    Interrupt,
    KnownTools,
    Marker,
    Mode,
    Monitor,
    MonitorSettings,
    Piece,
    ReasoningEdge,
    State,
    encode_tokens,
)
from caesura.session import Delta, Sampling, SessionError
from support.cml.streams import encode_text
from support.engines.fakes import FakeEngine, FakeStream

MARKERS = {marker: 256 + index for index, marker in enumerate(Marker)}
SYMBOLS = {**MARKERS, ReasoningEdge.OPENING: 261, ReasoningEdge.CLOSING: 262}
SPELLINGS = {token: marker.value for marker, token in MARKERS.items()}
EOS, PROMPT = 263, 264
STOPS = {
    Mode.SYNC: CallStop.EACH,
    Mode.SYNC_PARALLEL: CallStop.BUNDLE,
    Mode.ASYNC: CallStop.NEVER,
}


def text_of(token: int) -> str:
    return chr(token) if token < 256 else ""


def written(script: str) -> list[int]:
    """Tokens of a script that spells markers."""
    tokens: list[int] = []
    while script:
        marker = next((m for m in Marker if script.startswith(m.value)), None)
        if marker is None:
            tokens += script[0].encode()
            script = script[1:]
        else:
            tokens.append(MARKERS[marker])
            script = script[len(marker.value) :]
    return tokens


def compact(pieces: Iterable[Piece]) -> str:
    """The pieces as a script, with few tokens."""
    return encode_text(pieces).replace(', "arguments": {}', "").replace('": ', '":')


def shown(tokens: Sequence[int]) -> str:
    """Tokens as text, markers spelled."""
    names = {**SPELLINGS, 261: "<think>", 262: "</think>", EOS: "<eos>", PROMPT: "<prompt>"}
    text, plain = "", bytearray()
    for token in tokens:
        if token in names:
            text, plain = text + plain.decode(errors="replace") + names[token], bytearray()
        else:
            plain.append(token)
    return text + plain.decode(errors="replace")


class ByteDecoder:
    def __init__(self) -> None:
        self._held = b""

    def __call__(self, token_ids: Sequence[int], final: bool) -> str:
        held, self._held = self._held + bytes(token_ids), b""
        if final:
            return held.decode(errors="replace")
        for cut in range(len(held), max(len(held) - 4, -1), -1):
            try:
                text = held[:cut].decode()
            except UnicodeDecodeError:
                continue
            self._held = held[cut:]
            return text
        return held.decode(errors="replace")


class ByteCodec:
    """`session.calling.Codec` in bytes."""

    def interrupts(self, interrupts: Sequence[Interrupt]) -> list[int]:
        return encode_tokens(interrupts, SYMBOLS, lambda text: list(text.encode()))

    def monitor(
        self,
        tools: KnownTools | None,
        used_ids: Iterable[str],
        state: State | None = None,
        before: Sequence[int] = (),
    ) -> Monitor:
        decode: IncrementalDecoder = ByteDecoder()
        monitor = Monitor(MonitorSettings(tools=tools), SYMBOLS, decode, used_ids)
        if state is State.REASONING:
            monitor.feed([SYMBOLS[ReasoningEdge.OPENING]])
        if state is not None:
            plain = takewhile(lambda token: token < 256, reversed(before))
            monitor.go_on_behind(decode(list(plain)[::-1], final=False))
        return monitor

    def frame_rules(self, mode: Mode) -> FrameRules:
        return FrameRules(
            call=MARKERS[Marker.CALL],
            trap=MARKERS[Marker.TRAP],
            head=MARKERS[Marker.HEAD],
            end=MARKERS[Marker.END],
            interrupt=MARKERS[Marker.INTR],
            calls=STOPS[mode],
            reasoning=(261, 262),
        )


class OwnTokens:
    """Counts what the model wrote itself since the latest prompt, as a transcript grows."""

    def __init__(self) -> None:
        self._of: Sequence[int] = ()
        self._read = 0
        self._inside = False
        self.prompts = 0
        self.count = 0

    def update(self, transcript: Sequence[int]) -> None:
        if transcript is not self._of:
            self.__init__()
            self._of = transcript
        for token in transcript[self._read :]:
            if token == PROMPT:
                self.prompts, self.count = self.prompts + 1, 0
            elif token == MARKERS[Marker.INTR]:
                self._inside = True
            elif not self._inside:
                self.count += 1
            elif token == MARKERS[Marker.END]:
                self._inside = False
        self._read = len(transcript)


class Scripted:
    """A model that writes these scripts, one per prompt, each up to its end of sequence."""

    def __init__(self, *scripts: str | Sequence[Piece]) -> None:
        self._scripts = [written(s if isinstance(s, str) else compact(s)) for s in scripts]
        self.own = OwnTokens()

    def __call__(self, transcript: Sequence[int]) -> int:
        self.own.update(transcript)
        script = self._scripts[self.own.prompts - 1]
        return script[self.own.count] if self.own.count < len(script) else EOS


def engine(*scripts: str | Sequence[Piece]) -> FakeEngine:
    return FakeEngine(EOS, Scripted(*scripts), text_of)


class EagerStream:
    """A stream that generates whether it is read or not, as engines do."""

    def __init__(self, stream: FakeStream) -> None:
        self.stream = stream
        self._deltas: asyncio.Queue[Delta | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for delta in self.stream.deltas():
            self._deltas.put_nowait(delta)
        self._deltas.put_nowait(None)

    async def deltas(self) -> AsyncIterator[Delta]:
        while (delta := await self._deltas.get()) is not None:
            yield delta

    async def extend(
        self, token_ids: Sequence[int], sampling: Sampling, endpoint: str | None = None
    ) -> None:
        await self.stream.extend(token_ids, sampling, endpoint)

    async def progress(
        self,
        *,
        fraction: float | None = None,
        remaining_seconds: float | None = None,
        endpoint: str | None = None,
    ) -> None:
        await self.stream.progress(
            fraction=fraction, remaining_seconds=remaining_seconds, endpoint=endpoint
        )

    async def name_next_pause(self, endpoint: str) -> None:
        await self.stream.name_next_pause(endpoint)

    async def close(self) -> None:
        await self.stream.close()
        await self._task


class EagerEngine(FakeEngine):
    """A fake engine that is ahead of whoever reads it."""

    async def open(
        self,
        session_id: str,
        token_ids: Sequence[int],
        sampling: Sampling,
        endpoint: str | None = None,
    ) -> EagerStream:
        return EagerStream(await super().open(session_id, token_ids, sampling, endpoint))


def eager(*scripts: str | Sequence[Piece]) -> EagerEngine:
    return EagerEngine(EOS, Scripted(*scripts), text_of)


class Refusing(EagerEngine):
    """An engine that takes no tokens for what it generates or has paused."""

    def __init__(self, script: str | Sequence[Piece], error: SessionError) -> None:
        super().__init__(EOS, Scripted(script), text_of)
        self.error = error

    async def open(
        self,
        session_id: str,
        token_ids: Sequence[int],
        sampling: Sampling,
        endpoint: str | None = None,
    ) -> EagerStream:
        stream = await super().open(session_id, token_ids, sampling, endpoint)

        async def extend(
            token_ids: Sequence[int], sampling: Sampling, endpoint: str | None = None
        ) -> None:
            raise self.error

        stream.extend = extend
        return stream
