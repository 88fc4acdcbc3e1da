"""What training never sees, so that a model can be evaluated with it."""

import hashlib
from collections.abc import Callable


def is_held_out(value: str, parts: int = 10) -> bool:
    """Whether a value or phrasing is kept for evaluation: one of `parts`, by its hash."""
    return hashlib.sha256(value.encode()).digest()[0] % parts == 0


def side(held_out: bool) -> Callable[[str], bool]:
    """Accepts the values of one side of the hold-out."""
    return lambda value: is_held_out(value) == held_out
