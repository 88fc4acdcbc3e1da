"""What training never sees, so that it can be evaluated with."""

import hashlib


def is_held_out(value: str, parts: int = 10) -> bool:
    """Whether a value or phrasing is kept for evaluation: one of `parts`, by its hash."""
    return hashlib.sha256(value.encode()).digest()[0] % parts == 0
