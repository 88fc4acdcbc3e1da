"""The demo model's tokenizer: bytes for what people write, pseudo-words for what it generates."""

import json
from importlib.resources import files
from itertools import islice, product
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

UNK, BOS, EOS, PAD = "<unk>", "<s>", "</s>", "<pad>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
CONTROL_TOKENS = (UNK, BOS, EOS, PAD, TURN_START, TURN_END)
TOOL_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
FIRST_BYTE_ID = len(CONTROL_TOKENS) + len(TOOL_TOKENS)
FIRST_WORD_ID = FIRST_BYTE_ID + 256

_CONSONANTS, _VOWELS = "lmnrstv", "aeio"
MAX_VOCAB_SIZE = FIRST_WORD_ID + (len(_CONSONANTS) * len(_VOWELS)) ** 2


def vocabulary(size: int) -> list[str]:
    """Return the tokens in order of their ids: control, tool tags, 256 bytes, words.

    Every word is a space and two syllables, such as `" lamo"`. No word begins another, and
    nothing merges, so the text of any sequence of words encodes to the same sequence again.

    Raises:
        ValueError: `size` leaves no room for a word, or asks for more words than there are.
    """
    if not FIRST_WORD_ID < size <= MAX_VOCAB_SIZE:
        raise ValueError(
            f"vocab_size is {size}; choose one from {FIRST_WORD_ID + 1} to {MAX_VOCAB_SIZE}"
        )
    syllables = ["".join(pair) for pair in product(_CONSONANTS, _VOWELS)]
    words = (f" {first}{second}" for second, first in product(syllables, repeat=2))
    return [
        *CONTROL_TOKENS,
        *TOOL_TOKENS,
        *_byte_tokens(),
        *islice(words, size - FIRST_WORD_ID),
    ]


def build_tokenizer(vocab_size: int) -> Tokenizer:
    """Build the tokenizer; it adds no tokens of its own around a text.

    Raises:
        ValueError: see `vocabulary`.
    """
    tokens = vocabulary(vocab_size)
    ids = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocab=ids, merges=[], unk_token=UNK))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([_verbatim(token, special=True) for token in CONTROL_TOKENS])
    plain = (*TOOL_TOKENS, *tokens[FIRST_WORD_ID:])
    tokenizer.add_tokens([_verbatim(token, special=False) for token in plain])
    return tokenizer


def save_tokenizer(folder: Path, vocab_size: int, max_tokens: int) -> None:
    """Write the tokenizer files that `AutoTokenizer.from_pretrained(folder)` reads.

    Args:
        folder: an existing folder.
        vocab_size: number of tokens.
        max_tokens: the model's context length.
    """
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNK,
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "additional_special_tokens": [TURN_START, TURN_END],
        "model_max_length": max_tokens,
        "clean_up_tokenization_spaces": False,
    }
    build_tokenizer(vocab_size).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(chat_template(), encoding="utf-8")


def chat_template() -> str:
    """Return the Jinja source of the chat template."""
    return files(__package__).joinpath("noise_chat_template.jinja").read_text(encoding="utf-8")


def _verbatim(token: str, *, special: bool) -> AddedToken:
    return AddedToken(token, special=special, normalized=False)


def _byte_tokens() -> list[str]:
    """Return the character that byte-level tokenizers show for each byte, as GPT-2 defined it."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    unprintable = [byte for byte in range(256) if byte not in printable]
    stand_ins = {byte: 256 + index for index, byte in enumerate(unprintable)}
    return [chr(stand_ins.get(byte, byte)) for byte in range(256)]
