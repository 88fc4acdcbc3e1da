"""Frames as tokens. All data in them is escaped here, and nowhere else."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from caesura.cml.escaping import escape
from caesura.cml.frames import (
    Call,
    Channel,
    FireAndForget,
    Interrupt,
    JsonObject,
    Piece,
    Text,
    Trap,
    json_text,
)
from caesura.cml.markers import Marker, ReasoningEdge, Symbol, Symbols
from caesura.errors import ConfigurationError

Tokenize = Callable[[str], Sequence[int]]
"""Tokens of plain text, special tokens disabled."""


def encode_tokens(
    pieces: Iterable[Piece], token_ids: Mapping[Symbol, int], tokenize: Tokenize
) -> list[int]:
    """The pieces as one stream of tokens, in this order.

    Interrupts that arrived during a critical section are injected together, as one stream.

    Args:
        pieces: frames and text.
        token_ids: the token of each symbol that the model has.
        tokenize: tokens of the text between symbols.

    Raises:
        KeyError: a symbol has no token.
        ConfigurationError: `tokenize` turned text into a symbol, which would forge frames.
    """
    symbol_ids = frozenset(token_ids.values())
    tokens: list[int] = []
    for segment in _segments(pieces, tuple(token_ids)):
        if isinstance(segment, str):
            plain = tokenize(segment)
            if not symbol_ids.isdisjoint(plain):
                raise ConfigurationError(
                    "the tokenizer makes CML markers of plain text; disable special tokens in it"
                )
            tokens += plain
        else:
            tokens.append(token_ids[segment])
    return tokens


def _segments(pieces: Iterable[Piece], symbols: Symbols) -> Iterator[Symbol | str]:
    """Symbols, and all text between two of them, escaped together."""
    text = ""
    for part in chain.from_iterable(map(_parts, pieces)):
        if isinstance(part, str):
            text += part
            continue
        if text:
            yield escape(text, symbols)
        yield part
        text = ""
    if text:
        yield escape(text, symbols)


def _parts(piece: Piece) -> tuple[Symbol | str, ...]:
    match piece:
        case Text(text, channel):
            if channel is Channel.ANSWER:
                return (text,)
            return (ReasoningEdge.OPENING, text, ReasoningEdge.CLOSING)
        case Call(call_id, name, arguments):
            body = _body(name, arguments)
            return (Marker.CALL, call_id, Marker.HEAD, body, Marker.END)
        case FireAndForget(name, arguments):
            return (Marker.CALL, _body(name, arguments), Marker.END)
        case Trap():
            return (Marker.TRAP, Marker.END)
        case Interrupt(call_id, value):
            return (Marker.INTR, call_id, Marker.HEAD, value, Marker.END)


def _body(name: str, arguments: JsonObject) -> str:
    return json_text({"name": name, "arguments": arguments})
