"""Text that others wrote, on a terminal: nothing in it is hidden or looks like a line of ours."""

import json
import re
from itertools import chain, repeat

from pydantic import JsonValue

from caesura.chat.records import ApprovalView
from caesura.chat.texts import pieces
from caesura.console import visible

QUOTE = "│ "
GOES_ON = "┆ "  # the line before was too long
MARKS = "│┆?›→←!"  # what lines of ours begin with
_NAME = re.compile(r"[\w.-]+")


def quoted(text: str, width: int | None, first: str = QUOTE) -> list[str]:
    """A text line by line, each behind a mark.

    Without the marks, and with what follows `GOES_ON` put at the end of the line before, the lines
    are `visible(text)`.

    Args:
        text: the text.
        width: cells of a line; None for lines of any length.
        first: stands before the first line; what it has before its last two characters is
            indentation before the others.
    """
    indent = " " * (len(first) - len(QUOTE))
    lines: list[str] = []
    for line in visible(text.replace("\r\n", "\n")).split("\n"):
        marks = chain([indent + QUOTE if lines else first], repeat(indent + GOES_ON))
        parts = pieces(line, None if width is None else width - len(first))
        lines += [mark + part for mark, part in zip(marks, parts, strict=False)]
    return lines


def inline(text: str, characters: int | None = None) -> str:
    """A text within a line of ours, cut where it is too long."""
    shown = visible(" ".join(text.splitlines()))
    hidden = 0 if characters is None else len(shown) - characters
    return f"{shown[:characters]}… ({hidden} more characters)" if hidden > 0 else shown


def named(name: str) -> str:
    """A name within a line of ours; in quotes if it could be read as something else."""
    if _NAME.fullmatch(name) and visible(name) == name:
        return name
    return visible(json.dumps(name, ensure_ascii=False))


def who(asked: ApprovalView) -> str:
    """The tool that asks or wants to run, and who runs it."""
    provider = f" ({inline(asked.provider, 100)})" if asked.provider else ""
    return named(asked.tool) + provider


def question_lines(asked: ApprovalView, width: int | None) -> list[str]:
    """What a human decides on: all of it."""
    if asked.kind == "approval":
        return [f"? Run {who(asked)} with:", *quoted(_json(asked.arguments), width)]
    lines = [f"? {who(asked)} asks:", *quoted(asked.text, width)]
    for number, choice in enumerate(asked.choices, 1):
        lines += quoted(choice, width, f"{number:>3} {QUOTE}")
    if asked.json_schema is not None:
        lines.append("? for data of this schema:")
        lines += quoted(_json(asked.json_schema), width)
    return lines


def _json(value: JsonValue) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
