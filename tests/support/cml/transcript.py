"""Reads whole streams back, what the runtime injected included.

For recorded sessions and training data. A model's stream is read by a monitor, which forgives;
this does not.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from caesura.cml.body import read_body
from caesura.cml.escaping import unescape
from caesura.cml.faults import ProtocolError, excerpt
from caesura.cml.frames import (
    Call,
    Channel,
    FireAndForget,
    Frame,
    Interrupt,
    Limits,
    Piece,
    Text,
    Trap,
    is_id,
)
from caesura.cml.markers import ALL_SYMBOLS, MARKERS, Marker, ReasoningEdge, Symbol, Symbols
from caesura.errors import CaesuraError


@dataclass(frozen=True, slots=True)
class Found:
    """A symbol in a text: where it begins, and where it ends."""

    symbol: Symbol
    start: int
    end: int


def find(symbols: Iterable[Symbol], text: str, start: int) -> Found | None:
    """The next of these symbols."""
    spelled = {symbol.value: symbol for symbol in symbols}
    match = re.compile("|".join(map(re.escape, spelled))).search(text, start)
    return match and Found(spelled[match[0]], match.start(), match.end())


class MalformedTranscript(CaesuraError, ValueError):
    """A text that is not a stream of CML; says what is wrong and after how many characters."""


def read_transcript(text: str, symbols: Symbols = ALL_SYMBOLS) -> list[Piece]:
    """The pieces of which `encode_text` makes this text, neighbouring texts joined.

    Whether ids are unique, and interrupts answer calls, is not checked.

    Raises:
        MalformedTranscript: the text breaks the grammar.
    """
    return _Reader(text, symbols).pieces()


class _Reader:
    def __init__(self, text: str, symbols: Symbols) -> None:
        self._text = text
        self._symbols = symbols
        self._position = 0

    def pieces(self) -> list[Piece]:
        pieces: list[Piece] = []
        outside = [symbol for symbol in self._symbols if symbol is not ReasoningEdge.CLOSING]
        while found := find(outside, self._text, self._position):
            self._add_text(pieces, self._up_to(found), Channel.ANSWER)
            if found.symbol is ReasoningEdge.OPENING:
                self._add_text(pieces, self._reasoning(), Channel.REASONING)
            else:
                pieces.append(self._frame(found))
        self._add_text(pieces, self._text[self._position :], Channel.ANSWER)
        return pieces

    def _up_to(self, found: Found) -> str:
        """The text before a symbol; goes on behind it."""
        before = self._text[self._position : found.start]
        self._position = found.end
        return before

    def _add_text(self, pieces: list[Piece], text: str, channel: Channel) -> None:
        if not text:
            return
        text = unescape(text, self._symbols)
        # An empty reasoning block may have parted it from the text before.
        if pieces and isinstance(last := pieces[-1], Text) and last.channel is channel:
            text = last.text + text
            pieces.pop()
        pieces.append(Text(text, channel))

    def _reasoning(self) -> str:
        found = find([ReasoningEdge.CLOSING], self._text, self._position)
        if found is None:
            raise self._malformed("the reasoning block has no end", self._position)
        return self._up_to(found)

    def _frame(self, opening: Found) -> Frame:
        if opening.symbol in (Marker.HEAD, Marker.END):
            raise self._malformed("a marker that begins no frame", opening.start)
        first = self._next_marker(opening)
        content = self._up_to(first)
        call_id = None
        if first.symbol is Marker.HEAD:
            call_id = content.strip()
            if not is_id(call_id):
                raise self._malformed(f"{excerpt(call_id)} is not an id", opening.end)
            first = self._next_marker(opening)
            content = self._up_to(first)
        if first.symbol is not Marker.END:
            raise self._malformed(f"{first.symbol.value} before [END]", first.start)
        return self._made(opening, call_id, unescape(content, self._symbols))

    def _next_marker(self, opening: Found) -> Found:
        found = find(MARKERS, self._text, self._position)
        if found is None:
            raise self._malformed("the frame has no end", opening.start)
        return found

    def _made(self, opening: Found, call_id: str | None, content: str) -> Frame:
        match opening.symbol, call_id:
            case Marker.CALL, _:
                return self._call(opening, call_id, content)
            case Marker.INTR, str(interrupt_id):
                return Interrupt(interrupt_id, content)
            case Marker.TRAP, None if not content.strip():
                return Trap()
        raise self._malformed("the frame is none of the grammar", opening.start)

    def _call(self, opening: Found, call_id: str | None, content: str) -> Frame:
        invocation = read_body(content, Limits().nesting)
        if isinstance(invocation, ProtocolError):
            raise self._malformed(invocation.message, opening.start)
        if call_id is None:
            return FireAndForget(invocation.name, invocation.arguments)
        return Call(call_id, invocation.name, invocation.arguments)

    def _malformed(self, reason: str, position: int) -> MalformedTranscript:
        return MalformedTranscript(f"after {position} characters: {reason}")
