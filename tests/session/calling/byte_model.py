"""A model of bytes and markers that writes a script, on the fake engine.

Its next token is a function of the transcript: it skips prompts and interrupts, and writes the
script's token at that place, whatever came between.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from caesura.cml import (
    CallStop,
    FrameRules,
    IncrementalDecoder,
    Interrupt,
    KnownTools,
    Marker,
    Mode,
    MonitorSettings,
    Piece,
    ReasoningEdge,
    State,
    TokenMonitor,
    encode_text,
    encode_tokens,
)
from caesura.session import Delta, Sampling
from fakes import FakeEngine, FakeStream

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


def shown(tokens: Sequence[int]) -> str:
    """Tokens as text, markers spelled."""
    names = {**SPELLINGS, 261: "<think>", 262: "</think>", EOS: "<eos>", PROMPT: "<prompt>"}
    return "".join(names.get(token) or chr(token) for token in tokens)


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
        self, tools: KnownTools | None, used_ids: Iterable[str], state: State | None = None
    ) -> TokenMonitor:
        decode: IncrementalDecoder = ByteDecoder()
        monitor = TokenMonitor(MonitorSettings(tools=tools), SYMBOLS, decode, used_ids)
        if state is State.REASONING:
            monitor.feed([SYMBOLS[ReasoningEdge.OPENING]])
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


def own_tokens(transcript: Sequence[int]) -> list[int]:
    """What the model wrote itself since the latest prompt."""
    last = len(transcript) - list(transcript)[::-1].index(PROMPT)
    own: list[int] = []
    inside = False
    for token in transcript[last:]:
        if token == MARKERS[Marker.INTR]:
            inside = True
        elif not inside:
            own.append(token)
        elif token == MARKERS[Marker.END]:
            inside = False
    return own


def scripted(*scripts: str | Sequence[Piece]) -> Callable[[Sequence[int]], int]:
    """A model that writes these, one per prompt, each up to its end of sequence."""
    tokens = [written(s if isinstance(s, str) else encode_text(s)) for s in scripts]

    def model(transcript: Sequence[int]) -> int:
        script = tokens[list(transcript).count(PROMPT) - 1]
        done = len(own_tokens(transcript))
        return script[done] if done < len(script) else EOS

    return model


def engine(*scripts: str | Sequence[Piece]) -> FakeEngine:
    return FakeEngine(EOS, scripted(*scripts), text_of)


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
    return EagerEngine(EOS, scripted(*scripts), text_of)
