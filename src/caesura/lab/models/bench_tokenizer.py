"""The bench model's tokenizer: a real one, so that calls have realistic lengths in tokens.

It is the byte-pair encoding of Mistral 7B as the package `mistral_common` ships it, which vLLM
depends on, with special tokens for the five markers of CML and for tool calls as Hermes and Qwen
write them.
"""

import json
from importlib.resources import files
from pathlib import Path

from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from caesura.cml import Marker
from caesura.errors import ConfigurationError

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
CALL_START, CALL_END = "<tool_call>", "</tool_call>"  # of models that do not know CML
SPECIAL_TOKENS = (
    TURN_START,
    TURN_END,
    CALL_START,
    CALL_END,
    *(marker.value for marker in Marker),
)
SOURCE = "tokenizer.model.v1"
_SPACE = "▁"  # how sentencepiece spells a space


def vocabulary() -> list[str]:
    """The tokens in order of their ids: Mistral's 32,000, then the special ones.

    Raises:
        ConfigurationError: `mistral_common` does not ship its tokenizer.
    """
    model = _sentencepiece()
    pieces = [str(model.id_to_piece(index)) for index in range(model.get_piece_size())]
    return [*pieces, *SPECIAL_TOKENS]


def build_tokenizer() -> Tokenizer:
    """Build the tokenizer; it adds no tokens of its own, nor a space in front of a text."""
    tokens = vocabulary()
    ids = {token: index for index, token in enumerate(tokens[: -len(SPECIAL_TOKENS)])}
    tokenizer = Tokenizer(
        BPE(vocab=ids, merges=_merges(ids), unk_token=UNK, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = (UNK, BOS, EOS, *SPECIAL_TOKENS)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    return tokenizer


def save_tokenizer(folder: Path, max_tokens: int) -> None:
    """Write the tokenizer files that `AutoTokenizer.from_pretrained(folder)` reads."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNK,
        "bos_token": BOS,
        "eos_token": EOS,
        "additional_special_tokens": list(SPECIAL_TOKENS),
        "model_max_length": max_tokens,
        "clean_up_tokenization_spaces": False,
    }
    build_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def _merges(ids: dict[str, int]) -> list[tuple[str, str]]:
    """The pairs that merge, in order of rank: a piece's rank is its id."""
    merges = []
    for piece, rank in ids.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                merges.append((rank, ids[left], ids[right], left, right))
    return [(left, right) for _, _, _, left, right in sorted(merges)]


def _sentencepiece() -> SentencePieceProcessor:
    path = Path(str(files("mistral_common") / "data" / SOURCE))
    if not path.is_file():
        raise ConfigurationError(
            f"mistral_common ships no {SOURCE}; install the version of it that vLLM asks for"
        )
    return SentencePieceProcessor(model_file=str(path))
