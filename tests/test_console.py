"""Data are shown as what they are: no markup, no emoji codes, nothing that steers a terminal."""

import ast
import re
import subprocess
import sys
import unicodedata
from io import StringIO
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import TextColumn
from rich.table import Table

from caesura.console import plain_console, printable
from caesura.lab.progress import progress_bars

SOURCE = Path(__file__).parent.parent / "src" / "caesura"
DATA = "uniform:A:B [bold]:smile:[/bold] [/x] [red]"


@given(st.text())
def test_nothing_that_is_shown_steers_a_terminal(text: str) -> None:
    shown = printable(text)
    categories = {unicodedata.category(c) for c in shown if c not in "\n\t\u200c\u200d"}
    assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    shown.encode()  # halves of surrogate pairs could not be written


def test_what_cannot_be_shown_leaves_a_mark() -> None:
    trick = (
        "safe\x1b[2J\x1b]0;title\x07\u202egnp.exe\x9b31m\r\nnext\rover\r\n\ud83d\u200f\U000e0041"
    )
    assert printable(trick) == "safe�[2J�]0;title��gnp.exe�31m\nnext�over\n���"


def test_a_console_takes_no_text_for_markup() -> None:
    file = StringIO()
    console = plain_console(file=file)
    table = Table(DATA, title=DATA)
    table.add_row(DATA)
    console.print(DATA, table)
    console.rule(DATA)
    shown = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).split())
    assert shown.count(DATA) == 5


def test_progress_takes_no_text_for_markup() -> None:
    console = Console(file=StringIO(), width=200)
    with progress_bars(detail="{task.fields[detail]}", console=console) as progress:
        progress.add_task(DATA, detail=DATA)
        with console.capture() as captured:
            console.print(progress.get_renderable())
    assert captured.get().count(DATA) == 2


def test_an_error_is_shown_as_it_is() -> None:
    file = f"{DATA}\x1b[2J.toml".replace("/", "")
    command = [sys.executable, "-m", "caesura.cli", "serve", "model", "--config", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    message = " ".join(done.stderr.split())
    assert f"error: {file}".replace("\x1b", "�") in message


def calls(file: Path) -> list[tuple[str, ast.Call]]:
    tree = ast.parse(file.read_text("utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func).rpartition(".")[2], node) for node in nodes]


def objections(name: str, call: ast.Call) -> str | None:
    match name:
        case "Console":
            return "make it with plain_console"
        case "from_markup":
            return "assemble it of texts and styles"
        case "TextColumn" if not any(word.arg == "markup" for word in call.keywords):
            return "give it markup=False"
        case "status" if call.args and not isinstance(call.args[0], ast.Constant):
            return "a status is read as markup: give it a text of ours"
    return None


def test_nothing_is_shown_past_such_a_console() -> None:
    """Each of these would read data as markup."""
    found = [
        f"{file.relative_to(SOURCE)}:{call.lineno}: {reason}"
        for file in sorted(SOURCE.rglob("*.py"))
        if file.name != "console.py"
        for name, call in calls(file)
        if (reason := objections(name, call)) and not name.startswith("_")
    ]
    assert not found
    assert objections("TextColumn", ast.parse("TextColumn('x')").body[0].value)
    assert TextColumn("").markup  # what is to be turned off
