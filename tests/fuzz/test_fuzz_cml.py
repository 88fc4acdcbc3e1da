import random

import pytest

from cml_support import FRAGMENTS
from fuzz.fuzz_cml import check


@pytest.mark.parametrize("seed", range(20))
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
