"""Text that is data as tokens, and tokens that come one by one as text."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerFast

MARKER_TOKENS = 8
"""More than half a marker is spelled with."""

_INVALID_PREFIX = "Invalid prefix encountered"
_CHARACTER_TOKENS = 8  # more than any character is made of


class DataTokens:
    """Tokens of text in which nothing is special.

    Has a tokenizer of its own: whether special tokens are recognized is a setting of the whole
    tokenizer, which others use meanwhile. May be used from several threads at once: no setting is
    changed any more, and a short text does not wait for a long one.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


class StreamDecoder:
    """`cml.IncrementalDecoder` on a model's tokenizer.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._stream = DecodeStream(skip_special_tokens=False)
        self._held: list[int] = []  # the beginning of a character

    def __call__(self, token_ids: Sequence[int], final: bool) -> str:
        """See `IncrementalDecoder`."""
        text = ""
        for token_id in token_ids:
            piece = self._step(token_id)
            if piece is None:
                self._held.append(token_id)
            else:
                self._held.clear()
                text += piece
            if len(self._held) > _CHARACTER_TOKENS:
                text += self._give_up()
        return text + self._give_up() if final and self._held else text

    def _step(self, token_id: int) -> str | None:
        try:
            return self._stream.step(self._tokenizer, token_id)
        except Exception as error:  # it has no type of its own
            if not str(error).startswith(_INVALID_PREFIX):
                raise
            # A decoder that changes text it has given out, as some do: go on from here.
            self._stream = DecodeStream(skip_special_tokens=False)
            return self._stream.step(self._tokenizer, token_id)

    def _give_up(self) -> str:
        """What is held is no character."""
        text = self._tokenizer.decode(self._held, skip_special_tokens=False)
        self._held.clear()
        self._stream = DecodeStream(skip_special_tokens=False)
        return text
