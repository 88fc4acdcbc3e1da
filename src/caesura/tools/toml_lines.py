"""On which line of a TOML text a key is, which `tomllib` does not tell."""

import tomllib
from collections.abc import Iterator
from typing import Any

KeyPath = tuple[str | int, ...]

_CLOSINGS = ("", "\n]", "\n]]", "\n]]]")


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every key, table, and item of an array.

    Args:
        text: TOML that `tomllib` accepts; of others the result means nothing.
    """
    lines: dict[KeyPath, int] = {}
    tables: dict[KeyPath, int] = {}  # how many items each array of tables has so far
    table: KeyPath = ()
    statement, since = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        statement += line + "\n"
        if not since and line.strip() and not line.lstrip().startswith("#"):
            since = number
        found, is_whole = _parsed(statement)
        if found is None:
            continue
        if is_whole and statement.lstrip().startswith("["):
            table = _table(found, tables)
            lines.setdefault(table, since)
            if isinstance(table[-1], int):
                lines.setdefault(table[:-1], since)
        else:
            for path in _paths(found):
                lines.setdefault((*table, *path), since)
        since = 0
        if is_whole:
            statement = ""
    return lines


def nearest_line(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of a key, or of the nearest key around it; 1 if there is none."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


def _parsed(statement: str) -> tuple[dict[str, Any] | None, bool]:
    """What a statement says, or its beginning as far as the last whole item of an array."""
    for closing in _CLOSINGS:
        try:
            return tomllib.loads(statement + closing), not closing
        except tomllib.TOMLDecodeError:
            pass
    return None, False


def _table(header: dict[str, Any], tables: dict[KeyPath, int]) -> KeyPath:
    """The path of a table; after each array of tables stands the index of its last item."""
    path: KeyPath = ()
    value: Any = header
    while value:
        if isinstance(value, list):
            tables[path] = tables.get(path, 0) + 1
            path, value = (*path, tables[path] - 1), value[0]
            continue
        if path in tables:
            path = (*path, tables[path] - 1)
        ((key, value),) = value.items()
        path = (*path, key)
    return path


def _paths(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    items = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else items:
        yield (*path, key)
        yield from _paths(item, (*path, key))
