"""The base of the store's tables."""

import json
from collections.abc import Callable

from caesura.session.database import Database


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
