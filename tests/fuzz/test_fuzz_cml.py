import random

import pytest

from fuzz.fuzz_cml import check
from support.cml.streams import FRAGMENTS
from support.draws import seeds

FOUND = [  # by atheris, or by hand: lengths of pieces, a zero, a stream
    b"",
    b"\x01\x02\0[~[END]",
    b"\0[CALL]a1[HEAD]{[INTR]",
]


@pytest.mark.parametrize("data", FOUND)
def test_what_was_found_once_breaks_nothing(data: bytes) -> None:
    check(data)


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", seeds(20))
def test_random_streams_break_nothing(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(50):
        lengths = bytes(chance.randrange(1, 12) for _ in range(chance.randrange(8)))
        check(lengths + b"\0" + random_stream(chance))


def random_stream(chance: random.Random) -> bytes:
    """Bytes of which most belong to fragments of frames."""
    parts = [
        chance.randbytes(chance.randrange(4))
        if chance.random() < 0.2
        else chance.choice(FRAGMENTS).encode()
        for _ in range(chance.randrange(20))
    ]
    return b"".join(parts)
