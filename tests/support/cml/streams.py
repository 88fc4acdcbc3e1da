"""Streams of CML for tests: whole, cut into pieces, as text and as tokens of a real tokenizer."""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from caesura.cml import (
    ALL_SYMBOLS,
    Call,
    Event,
    FireAndForget,
    Interrupt,
    Marker,
    Monitor,
    MonitorSettings,
    Piece,
    Text,
    Trap,
    encode_tokens,
)
from caesura.lab.models.noise_tokenizer import FIRST_BYTE_ID, FIRST_WORD_ID, vocabulary

PieceT = TypeVar("PieceT")
SequenceT = TypeVar("SequenceT", str, list[int])

SPELLINGS = {symbol: symbol.value for symbol in ALL_SYMBOLS}
# How byte-level tokenizers show each of the 256 bytes.
BYTE_CHARACTERS = vocabulary(FIRST_WORD_ID + 1)[FIRST_BYTE_ID:FIRST_WORD_ID]

# What is close to a marker, around one or looks like one.
FRAGMENTS = [
    *SPELLINGS.values(),
    *(spelling[:cut] for spelling in SPELLINGS.values() for cut in (1, 3, -1)),
    *(f"{s[0]}{quoting}{s[1:]}" for s in SPELLINGS.values() for quoting in ("~", "~~~")),
    *("[~", "[~~E", "~END]", "END]", "[call]", "[ END]", "[[", "]", "<", "\\", "\n", " ", "\0"),
    *("[E~N", "~D]", "D]", "[C~A~~LL]", "<th~", "~~ink>"),
    *(
        "é",
        "你好",
        "👩‍👩‍👧",
        "\u200b",
        "ｅ[END］",
        "[CALL]a1[HEAD]",
        '{"name": "f", "arguments": {}}',
    ),
    '[CALL]b2[HEAD]{"name": "f", "arguments": {"x": "[~END]"}}[END]',
    '[CALL]{"name": "g"}[END]',
    "[TRAP][END]",
    "<think>hm [CALL] hm</think>",
]

anything = st.text(st.characters(codec="utf-8"))
streams = st.lists(st.sampled_from(FRAGMENTS) | anything, max_size=12).map("".join)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | streams,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(streams, inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(streams, json_values, max_size=3)
ids = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,31}", fullmatch=True).filter(
    lambda call_id: call_id not in {"user", "error"}
)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10) | st.sampled_from(
    ["[END]", "weather"]
)
calls = st.builds(Call, ids, names, json_objects)
interrupts = st.builds(Interrupt, ids | st.just("user"), streams)
pieces = st.one_of(
    calls,
    st.builds(FireAndForget, names, json_objects),
    st.just(Trap()),
    interrupts,
    st.builds(Text, streams),
)


TOKEN_IDS = {symbol: -number for number, symbol in enumerate(ALL_SYMBOLS, start=1)}
_SPELLED = {TOKEN_IDS[symbol]: symbol.value for symbol in ALL_SYMBOLS}


def characters(text: str) -> list[int]:
    """The simplest tokens: of a text one for each character, of symbols `TOKEN_IDS`."""
    return list(map(ord, text))


def spelled(tokens: Iterable[int]) -> str:
    """What such tokens look like when symbols are spelled."""
    return "".join(_SPELLED.get(token) or chr(token) for token in tokens)


def encode_text(pieces: Iterable[Piece]) -> str:
    """What a stream looks like when symbols are spelled."""
    return spelled(encode_tokens(pieces, TOKEN_IDS, characters))


def cut(stream: SequenceT, lengths: Iterable[int]) -> Iterator[SequenceT]:
    """The stream in pieces of these lengths; the rest is the last."""
    start = 0
    for length in lengths:
        yield stream[start : start + length]
        start += length
    yield stream[start:]


def joined(pieces: Iterable[PieceT]) -> list[PieceT]:
    """The pieces with neighbouring texts made one."""
    result: list[PieceT] = []
    for piece in pieces:
        last = result[-1] if result else None
        if isinstance(piece, Text) and isinstance(last, Text) and piece.channel is last.channel:
            result[-1] = Text(last.text + piece.text, piece.channel)
        elif piece != Text(""):
            result.append(piece)
    return result


class MarkerTokenizer:
    """Byte-level BPE that merges across brackets, and has a token for each symbol."""

    def __init__(self) -> None:
        merges = [("]", "["), ("D", "]"), ("N", "D]"), ("Ġ", "["), ("{", '"'), ("}", "}")]
        tokens = [*BYTE_CHARACTERS, *("".join(merge) for merge in merges)]
        token_ids = {token: index for index, token in enumerate(tokens)}
        self._tokenizer = Tokenizer(BPE(vocab=token_ids, merges=merges))
        self._tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
        self._tokenizer.decoder = ByteLevelDecoder()
        # Reasoning tags are often added tokens that are not special.
        self._tokenizer.add_tokens(
            [
                AddedToken(spelling, special=isinstance(symbol, Marker), normalized=False)
                for symbol, spelling in SPELLINGS.items()
            ]
        )
        self.token_ids = {
            symbol: self._tokenizer.token_to_id(spelling) for symbol, spelling in SPELLINGS.items()
        }
        self._bytes = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}

    def encode(self, text: str) -> list[int]:
        """Tokens of a text as a model writes it: markers are tokens."""
        self._tokenizer.encode_special_tokens = False
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_plain(self, text: str) -> list[int]:
        """Tokens of a text with special tokens disabled."""
        self._tokenizer.encode_special_tokens = True
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def bytes_of(self, token_ids: Iterable[int]) -> bytes:
        tokens = (self._tokenizer.id_to_token(token_id) for token_id in token_ids)
        return bytes(self._bytes[character] for token in tokens for character in token)


class ByteDecoder:
    """Incremental text of a `MarkerTokenizer`'s tokens; must never be given a marker."""

    def __init__(self, tokenizer: MarkerTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, token_ids: Sequence[int], final: bool) -> str:
        assert not set(self._tokenizer.token_ids.values()) & set(token_ids)
        return self._decoder.decode(self._tokenizer.bytes_of(token_ids), final)


TOKENIZER = MarkerTokenizer()


class StreamReader(Monitor):
    """A monitor of what a model with these tokens writes."""

    def __init__(
        self, settings: MonitorSettings | None = None, used_ids: Iterable[str] = ()
    ) -> None:
        decode = ByteDecoder(TOKENIZER)
        super().__init__(settings or MonitorSettings(), TOKENIZER.token_ids, decode, used_ids)

    def read(self, stream: str) -> list[Event]:
        """Take text in which markers are spelled; they are tokens."""
        return self.feed(TOKENIZER.encode(stream))


def monitored(
    chunks: Iterable[Sequence[int]], settings: MonitorSettings | None = None
) -> list[Event]:
    """The events of one turn, written in these chunks of tokens."""
    monitor = StreamReader(settings)
    events = [event for chunk in chunks for event in monitor.feed(chunk)]
    return joined([*events, *monitor.end_of_stream()])
