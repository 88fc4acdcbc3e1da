"""The tokenizer of the demo model: a value has the same few tokens wherever it stands."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteFallback, Fuse, Sequence
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Split

from caesura.bundled.demo_tools import BODY_TAIL, STATUSES, TOOLS
from caesura.cml import Marker, Mode
from caesura.lab.train import demo_phrases as phrases
from caesura.lab.train.ids import RETRY_SUFFIX, id_of
from caesura.lab.train.session_codec import SessionCodec

PAD, UNK, EOS, USER, SYSTEM = "<|pad|>", "<|unk|>", "<|end|>", "<|user|>", "<|system|>"
MODE_TOKENS = {mode: f"<|{mode.value}|>" for mode in Mode}
CONTROL_TOKENS = (PAD, UNK, EOS, USER, SYSTEM, *MODE_TOKENS.values())
ERROR_HEAD = '{"error": {"type": "'
ERROR_MIDDLE = '", "message": "'
MOST_CALLS_PER_TOOL = 6

CHAT_TEMPLATE = Path(__file__).with_name("demo_chat_template.jinja").read_text(encoding="utf-8")


def call_ids() -> list[str]:
    """All ids that the model gives to calls: `price1`, and `price1_again` for the retry."""
    return [
        id_of(tool.name, number) + suffix
        for tool in TOOLS
        for number in range(1, MOST_CALLS_PER_TOOL + 1)
        for suffix in ("", RETRY_SUFFIX)
    ]


def _pattern() -> str:
    names = "|".join(tool.name for tool in TOOLS)
    literals = [*(tool.head for tool in TOOLS), BODY_TAIL, ERROR_HEAD, ERROR_MIDDLE]
    return "|".join(
        [
            *(_escaped(literal) for literal in literals),
            f"(?:{names})[1-{MOST_CALLS_PER_TOOL}](?:{RETRY_SUFFIX})?",
            ": ",
            f" (?=[A-Z0-9]|(?:{names})[1-{MOST_CALLS_PER_TOOL}])",  # before a value or an id
            "[A-Z](?=[A-Z0-9])",  # a letter of a code
            "[0-9][0-9]|[0-9]",
            " ?[A-Za-z_']+",
            r"[\s\S]",
        ]
    )


def _escaped(literal: str) -> str:
    return "".join(f"\\{c}" if c in '{}"' else c for c in literal)


@cache
def build_tokenizer() -> Tokenizer:
    """Build the tokenizer. Words that it does not know are spelled, in ASCII or bytes."""
    split = Split(Regex(_pattern()), behavior="isolated")
    plain = [
        *(tool.head for tool in TOOLS),
        BODY_TAIL,
        ERROR_HEAD,
        ERROR_MIDDLE,
        *call_ids(),
        ": ",
        *(f"{pair:02}" for pair in range(100)),
        *(chr(code) for code in range(32, 127)),
        "\n",
        *(f"<0x{byte:02X}>" for byte in range(256)),
    ]
    words = sorted({piece for text in _texts() for piece, _ in split.pre_tokenize_str(text)})
    special = [*CONTROL_TOKENS, *(marker.value for marker in Marker)]
    tokens = list(dict.fromkeys([*special, *plain, *words]))
    tokens += [f"<|unused{i}|>" for i in range(-len(tokens) % 32)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        BPE(vocabulary, [], unk_token=UNK, byte_fallback=True, ignore_merges=True)
    )
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = Sequence([ByteFallback(), Fuse()])
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    return tokenizer


class DemoCodec(SessionCodec):
    """The demo model's tokens.

    Args:
        tokenizer: as it was saved with a model; without, as it is built now.
    """

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        super().__init__(tokenizer or build_tokenizer(), EOS, PAD)
        self._user = self.token_id(USER)
        self._modes = {mode: self.token_id(token) for mode, token in MODE_TOKENS.items()}

    def prompt(self, question: str, mode: Mode) -> list[int]:
        """See `SessionCodec`. The chat template gives the same tokens."""
        return [self._user, *self.tokenize(question), self._modes[mode]]


def _texts() -> Iterable[str]:
    """All text that the words of the vocabulary come from."""
    for before, after in (*phrases.OPENERS, *phrases.HELD_OUT_OPENERS, *phrases.STEERING):
        yield before + "the" + after
    yield from (*phrases.CLOSERS, *phrases.HELD_OUT_CLOSERS, *phrases.JOINERS)
    for wanted in phrases.WANTED.values():
        yield from (f" {text}" for text in wanted)
        yield from (text.capitalize() for text in wanted)
    yield from phrases.PROSE.values()
    yield from phrases.FAILURE_TYPES
    yield from (*phrases.FAILURE_MESSAGES, *phrases.HELD_OUT_FAILURE_MESSAGES)
    yield from STATUSES
    yield from ("failed", " gave", " up")


def save_tokenizer(folder: Path, max_tokens: int) -> None:
    """Write the tokenizer files that `AutoTokenizer.from_pretrained(folder)` reads."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNK,
        "eos_token": EOS,
        "pad_token": PAD,
        "additional_special_tokens": [
            USER,
            SYSTEM,
            *MODE_TOKENS.values(),
            *(marker.value for marker in Marker),
        ],
        "model_max_length": max_tokens,
        "clean_up_tokenization_spaces": False,
    }
    build_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
