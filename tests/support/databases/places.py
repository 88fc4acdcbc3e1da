"""On which kind of database the stores of tests are."""

import os
from collections.abc import Callable
from pathlib import Path

EVERYWHERE = os.environ.get("CAESURA_TEST_POSTGRES") == "all"
"""Every test of sessions runs on both kinds, not only those that say so."""
KINDS = ("sqlite", "postgres")

_place: Callable[[Path], Path | str] = Path


def place_of(path: Path) -> Path | str:
    """Where the store is that a test has at a path."""
    return _place(path)


def are_at(place: Callable[[Path], Path | str]) -> None:
    """From now on stores are there."""
    global _place
    _place = place
