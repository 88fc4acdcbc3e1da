"""Help pages: all that is to be known of a command, printed as it was written, at once."""

import re
import subprocess
import sys

import pytest

from caesura.cli.commands import COMMANDS, application
from support.cli.command_pages import help_page, options_of, pages

HEAVY = {"vllm", "torch", "transformers", "matplotlib"}
WITHOUT_OPTIONS = {("keys",), ("models",)}


def squeezed(text: str) -> str:
    """Without what a page adds: lines, frames, and the marks of code."""
    return re.sub(r"[\s│`]", "", text)


def modules_after(program: str) -> set[str]:
    """Names of all modules that a program of its own has imported."""
    program += "\nimport sys; print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_the_first_page_lists_all_commands() -> None:
    page = help_page()
    for command in COMMANDS:
        assert re.search(rf"{command.name} +{re.escape(command.summary)}", page)


@pytest.mark.parametrize("words", pages(), ids=" ".join)
def test_a_page_prints_every_text_as_it_was_written(words: tuple[str, ...]) -> None:
    page = squeezed(help_page(*words))
    options = options_of(*words)
    assert bool(options) != (words in WITHOUT_OPTIONS)
    for option in options:
        if option.show:
            assert option.parameter.help, f"{option.name} says nothing"
            assert squeezed(option.parameter.help) in page
            assert option.name in page


@pytest.mark.parametrize("words", pages(), ids=" ".join)
def test_a_page_begins_with_what_the_command_is_for_and_ends_with_examples(
    words: tuple[str, ...],
) -> None:
    usage, _, *lines = help_page(*words).splitlines()
    assert usage.startswith(f"Usage: caesura {' '.join(words)}")
    assert len(lines[0].split()) > 5
    if words not in WITHOUT_OPTIONS:
        assert any(line.strip().startswith(f"caesura {words[0]}") for line in lines[-12:])


@pytest.mark.parametrize("words", [(), *pages()], ids=" ".join)
def test_a_page_has_no_symbols_but_those_of_its_frames(words: tuple[str, ...]) -> None:
    strange = {symbol for symbol in help_page(*words) if ord(symbol) > 0xFF}
    assert all("\u2500" <= symbol <= "\u257f" for symbol in strange), "an emoji"


def test_colons_and_brackets_are_no_markup() -> None:
    assert "uniform:A:B in seconds" in help_page("bench", "calls")
    assert 'pip install "caesura[train]"' in help_page("train")
    assert 'pip install "caesura[lab]"' in help_page()


@pytest.mark.parametrize(
    "program",
    [
        "import caesura.cli",
        "from caesura.cli import run; run(['--help'])",
        "from caesura.cli import run; run(['chat', '--help'])",
        "from caesura.cli import run; run(['serve', '--help'])",
    ],
)
def test_neither_vllm_nor_the_laboratory_is_imported_to_read(program: str) -> None:
    modules = modules_after(program)
    assert "caesura.cli.commands" in modules
    assert not {name for name in modules if name.startswith("caesura.lab")}
    assert not HEAVY & {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("words", pages(), ids=" ".join)
def test_a_page_of_the_laboratory_needs_none_of_its_packages(words: tuple[str, ...]) -> None:
    modules = modules_after(f"from caesura.cli import run; run({[*words, '--help']})")
    assert not HEAVY & {name.partition(".")[0] for name in modules}


def test_completion_knows_the_options_of_all_commands() -> None:
    script = application(["--install-completion"]).generate_completion(shell="bash")
    for option in ("--kv-memory", "--host-memory", "--lora-rank", "--function-calling"):
        assert option in script
