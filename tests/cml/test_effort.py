"""Reading takes time that is linear in what is written, however hostile it is and however cut."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import pytest

from caesura.cml import (
    CallStop,
    FrameRules,
    FrameWatch,
    Limits,
    Monitor,
    MonitorSettings,
    Text,
    encode_tokens,
)
from caesura.cml.chat_quoting import quoted_message
from caesura.cml.escaping import Unescaper
from support.cml.effort import effort
from support.cml.streams import SPELLINGS, TOKENIZER, ByteDecoder

SETTINGS = MonitorSettings(limits=Limits(body_characters=10**9, frames_per_turn=10**9))
HOSTILE = [
    *("a", "[", "[~", "~", "[CALL", "[CALL]", "[INTR]", "[HEAD]", "<think", "</think>"),
    *("[~CALL]", "[C~A~LL]", "[CALL]a1[HEAD]{}[END]"),
]
CUTS: list[Callable[[str], list[str]]] = [list, lambda text: [text]]
STARTS = ["", "[~", "[CALL]a1[HEAD]", "<think>"]


def monitor(pieces: Sequence[str]) -> None:
    reader = Monitor(SETTINGS, TOKENIZER.token_ids, ByteDecoder(TOKENIZER))
    for piece in pieces:
        reader.feed(TOKENIZER.encode(piece))
    reader.end_of_stream()


def frame_watch(pieces: Sequence[str]) -> None:
    tokens = [token for piece in pieces for token in TOKENIZER.encode(piece)]
    call, interrupt, trap, head, end, *edges = TOKENIZER.token_ids.values()
    rules = FrameRules(call, trap, head, end, interrupt, CallStop.BUNDLE, reasoning=tuple(edges))
    texts = {
        **{token: SPELLINGS[symbol] for symbol, token in TOKENIZER.token_ids.items()},
        **{token: TOKENIZER.bytes_of([token]).decode() for token in tokens if token < call},
    }
    watch = FrameWatch(rules, frozenset(), texts.__getitem__)
    for token in tokens:
        watch.feed(token, interrupt_waits=False)


def unescaper(pieces: Sequence[str]) -> None:
    unescaper = Unescaper()
    for piece in pieces:
        unescaper.feed(piece)


def encoder(pieces: Sequence[str]) -> None:
    encode_tokens(map(Text, pieces), TOKENIZER.token_ids, TOKENIZER.encode_plain)


def chat_quoting(pieces: Sequence[str]) -> None:
    content = [{"type": "text", "text": piece} for piece in pieces]
    quoted_message({"role": "tool", "content": content})


@pytest.mark.parametrize(
    "read",
    [monitor, frame_watch, unescaper, encoder, chat_quoting],
)
@pytest.mark.parametrize("start", STARTS)
def test_effort_is_linear(read: Callable[[Sequence[str]], None], start: str) -> None:
    for unit, cut in product(HOSTILE, CUTS):
        few, many = (
            effort(partial(read, cut(start + unit * (length // len(unit))))) for length in (50, 400)
        )
        # Eight times as long takes eight times as much; 64 times if it were quadratic.
        assert many <= 10 * few + 500, (unit, cut)
