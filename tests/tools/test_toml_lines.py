import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.tools.toml_lines import KeyPath, key_lines, nearest_line

TEXT = '''\
# comment with [brackets] and "quotes"
title = "a # b"            # 2

[tools.search]             # 4
type = "http"
headers.Accept = "a"       # 6
query = { q = "{q}", nested = { deep = 1 } }
text = """
not = "a key"
[nor.a.table] \\"""
"""
literal = \'\'\'
x = 1\'\'\'
items = [                  # 14
  "one", # comment, with a comma
  { two = 2 },             # 16
  [3, 4],
]
after = 1979-05-27 07:32:00 # 19

[["a b".steps]]            # 21
tool = "x"
[["a b".steps]]
tool = "y"                 # 24
[ "a b" . steps . extra ]
key = true                 # 26
"quo.ted" . 'sub' = 5
'''


def all_paths(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from all_paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from all_paths(item, (*path, index))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("tools", "search"), 4),
        (("tools", "search", "type"), 5),
        (("tools", "search", "headers", "Accept"), 6),
        (("tools", "search", "query", "nested", "deep"), 7),
        (("tools", "search", "text"), 8),
        (("tools", "search", "literal"), 12),
        (("tools", "search", "items"), 14),
        (("tools", "search", "items", 0), 15),
        (("tools", "search", "items", 1, "two"), 16),
        (("tools", "search", "items", 2, 1), 17),
        (("tools", "search", "after"), 19),
        (("a b", "steps", 0), 21),
        (("a b", "steps", 0, "tool"), 22),
        (("a b", "steps", 1, "tool"), 24),
        (("a b", "steps", 1, "extra", "key"), 26),
        (("a b", "steps", 1, "extra", "quo.ted", "sub"), 27),
    ],
)
def test_the_line_of_a_key_is_found(path: KeyPath, line: int) -> None:
    assert key_lines(TEXT)[path] == line


def test_every_key_that_tomllib_finds_has_a_line() -> None:
    lines = key_lines(TEXT)
    assert [path for path in all_paths(tomllib.loads(TEXT)) if path not in lines] == [
        ("tools",),
        ("a b",),
    ]


def test_of_a_missing_key_the_nearest_one_around_it_is_named() -> None:
    lines = key_lines(TEXT)
    assert nearest_line(lines, ("tools", "search", "url")) == 4
    assert nearest_line(lines, ("a b", "steps", 1, "tool", "x")) == 24
    assert nearest_line(lines, ("unheard", "of")) == 1


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=4)
VALUES = st.sampled_from(["1", '"a\\"]"', "'}#'", "[1, 2]", "{ x = 1, y = [] }", '"""a\n\n"""'])


def quoted(key: str) -> str:
    return (
        "'" + key + "'"
        if "'" not in key
        else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_keys_of_any_spelling_are_found_on_the_line_where_they_were_written(
    tables: dict[str, dict[str, str]],
) -> None:
    written: list[str] = []
    where: dict[KeyPath, int] = {}
    for table, pairs in tables.items():
        written.append(f"[{quoted(table)}] # {{")
        where[(table,)] = len(written)
        for key, value in pairs.items():
            where[(table, key)] = len(written) + 1
            written += f"{quoted(key)} = {value}".split("\n")
    text = "\n".join(written)
    tomllib.loads(text)
    lines = key_lines(text)
    plain = {path: line for path, line in where.items() if not any("'" in str(k) for k in path)}
    assert {path: lines[path] for path in plain} == plain
