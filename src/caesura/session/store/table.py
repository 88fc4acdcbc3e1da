"""The base of the store's tables."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from prometheus_client import Counter

from caesura.session.database import Database

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Read = TypeVar("Read")

_unreadable = Counter(
    "caesura_unreadable_records", "Stored records that were left out, since they cannot be read."
)


class Table:
    """Rows of one kind in the store's database.

    Methods that change something give a `Statement`; the store commits those that belong together.

    Args:
        database: where the rows are.
        clock: wall-clock seconds.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self.clock = clock


def dump(value: object) -> str:
    """A value as JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


@contextmanager
def left_out_if_unreadable() -> Iterator[None]:
    """Around one element of a list: one damaged record, or one of a newer version, is logged and
    counted, and does not hide all others."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        _unreadable.inc()
        logger.exception("a stored record cannot be read and is left out")


def readable(read: Callable[[Item], Read], items: Iterable[Item]) -> list[Read]:
    """What can be read of a list."""
    found = []
    for item in items:
        with left_out_if_unreadable():
            found.append(read(item))
    return found
