"""Tokens of a model that has one for each marker, and where interrupts may land."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

from tokenizers import Tokenizer

from caesura.cml import IncrementalDecoder, Marker, Mode, encode_tokens
from caesura.cml.frames import Piece
from caesura.cml.markers import Symbol


class SessionCodec(ABC):
    """What training must know of a model's tokens.

    Args:
        tokenizer: the model's; the markers are tokens of it.
        end: the token that ends a turn.
        pad: the token that fills batches.

    Raises:
        ValueError: the tokenizer lacks one of these tokens.
    """

    def __init__(self, tokenizer: Tokenizer, end: str, pad: str) -> None:
        self.tokenizer = tokenizer
        self.symbols: dict[Symbol, int] = {marker: self.token_id(marker.value) for marker in Marker}
        self.eos = self.token_id(end)
        self.pad = self.token_id(pad)

    @abstractmethod
    def prompt(self, question: str, mode: Mode) -> list[int]:
        """A user's turn, up to where the model begins to write."""

    @cached_property
    def texts(self) -> list[str]:
        """The text of each token, in order of their ids."""
        size = self.tokenizer.get_vocab_size()
        return [self.tokenizer.decode([i], skip_special_tokens=False) for i in range(size)]

    @cached_property
    def safe_tokens(self) -> frozenset[int]:
        """Before which of these an interrupt may be put: markers, the end, starts of words.

        A session that has something to inject waits until one of them is sampled, discards it,
        injects and samples again. So no word and no value is ever cut.
        """
        words = {i for i, text in enumerate(self.texts) if text.startswith((" ", "\n"))}
        return frozenset(words | {self.symbols[Marker.CALL], self.symbols[Marker.TRAP], self.eos})

    def tokenize(self, text: str) -> list[int]:
        """Tokens of plain text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Tokens of frames and text."""
        return encode_tokens(pieces, self.symbols, self.tokenize)

    def decode(self, token_ids: Sequence[int], final: bool = True) -> str:
        """Text of tokens; complete after each of them."""
        return "".join([self.texts[token] for token in token_ids])

    def decoder(self) -> IncrementalDecoder:
        """A decoder of one stream."""
        return self.decode

    def token_id(self, token: str) -> int:
        """The id of a token.

        Raises:
            ValueError: the tokenizer has no such token.
        """
        index: int | None = self.tokenizer.token_to_id(token)
        if index is None:
            raise ValueError(f"the tokenizer has no token {token}: it is not one of a CML model")
        return index
