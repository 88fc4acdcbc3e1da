"""What is read and written, in the SQL that both kinds of database understand.

Parameters are `?`, or `?1`, `?2` and so on where one is used twice. What is not the same in both,
PostgreSQL's schema makes the same: it has functions with the names of SQLite's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement with its parameters."""

    sql: str
    parameters: Sequence[object] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """A condition of a transaction: nothing of it is written unless the condition holds.

    Attributes:
        sql: a query of one value, which is true if the condition holds.
        parameters: of the query.
        refusal: raised if it does not.
    """

    sql: str
    parameters: Sequence[object]
    refusal: Exception


Transaction = Sequence[Statement | Check]
"""What is written together or not at all."""
