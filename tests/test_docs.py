"""What the documents say can be typed, written into files and looked up, is so."""

import ast
import re
import runpy
import shlex
from pathlib import Path

import pytest

from caesura.server.settings import ServerSettings
from caesura.tools.configuration import load_configuration
from support.cli.command_pages import options_of

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "README.md"]
SOURCE = "\n".join(
    re.sub(r'"\s*\n\s*f?"', "", file.read_text("utf-8"))  # texts over several lines
    for file in (ROOT / "src" / "caesura").rglob("*.py")
)
VLLMS_OWN = {
    "--port",
    "--data-parallel-size",
    "--kv-transfer-config",
    "--enable-auto-tool-choice",
    "--tool-call-parser",
    "--served-model-name",
}
COMMAND = re.compile(r"^(?:\S*/)?caesura (.+?)(?= [|&;<>#]|$)", re.MULTILINE)


def blocks(language: str) -> list[tuple[str, str]]:
    """Code of a language: the document's name, and the code."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [(file.name, block) for file in DOCUMENTS for block in pattern.findall(file.read_text())]


def commands() -> list[tuple[str, list[str]]]:
    """Every `caesura` command in a shell block, as words."""
    found = []
    for document, block in blocks("(?:bash|sh)"):
        for words in COMMAND.findall(block.replace("\\\n", " ")):
            found.append((document, shlex.split(words)))
    return found


def table(document: str, heading: str) -> list[str]:
    """The first cells of a table."""
    section = (ROOT / "docs" / document).read_text().partition(f"## {heading}\n")[2]
    return re.findall(r"^\| (`.*?) \|", section.partition("\n## ")[0], re.MULTILINE)


@pytest.mark.parametrize(("document", "block"), blocks("toml"))
def test_every_configuration_is_valid(document: str, block: str, tmp_path: Path) -> None:
    file = tmp_path / "caesura.toml"
    file.write_text(block)
    names = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block), "a value that nobody guesses")
    load_configuration(file, names, form=ServerSettings)


@pytest.mark.parametrize("file", [*(ROOT / "examples").rglob("*.toml")], ids=str)
def test_the_configuration_of_the_examples_is_valid(file: Path) -> None:
    load_configuration(file, {}, form=ServerSettings)


@pytest.mark.parametrize(("document", "words"), commands())
def test_every_command_has_the_options_that_it_is_given(document: str, words: list[str]) -> None:
    known = {name for option in options_of(*words) for name in option.names} | {"--help"}
    given = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
    assert given - (VLLMS_OWN if words[0] == "serve" else set()) <= known


@pytest.mark.parametrize(("document", "block"), blocks("python"))
def test_every_program_is_python(document: str, block: str) -> None:
    compile(block, document, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing


def test_every_example_is_listed_and_exists() -> None:
    text = (ROOT / "examples" / "README.md").read_text()
    listed = set(re.findall(r"python (examples/\S+\.py)", text))
    assert len(listed) == 6
    assert all((ROOT / script).is_file() for script in listed)


@pytest.mark.parametrize("name", ["modules", "python_api"])
def test_what_is_generated_is_true(name: str) -> None:
    script = runpy.run_path(str(ROOT / "docs" / "generate" / f"{name}.py"))
    written = script["PAGE"].read_text("utf-8")
    assert written == script["page"](), f"run: python docs/generate/{name}.py"


def test_every_module_says_what_it_is() -> None:
    page = (ROOT / "docs" / "explanation" / "modules.md").read_text("utf-8")
    assert not re.findall(r"^\* `\w+`: $", page, re.MULTILINE)


def test_every_metric_of_the_guide_exists() -> None:
    text = (ROOT / "docs" / "how-to" / "operate.md").read_text()
    named = set(re.findall(r"caesura(?::|_tool_)\w+", text))
    assert len(named) > 8
    stems = {re.sub(r"^caesura:|_total$", "", name) for name in named}
    assert {stem for stem in stems if stem not in SOURCE} == set()


@pytest.mark.parametrize("cell", table("how-to/operate.md", "Troubleshooting"))
def test_every_message_of_the_troubleshooting_table_is_one(cell: str) -> None:
    assert cell.strip("`") in SOURCE


def promises() -> list[str]:
    """The tests that the security page names."""
    text = (ROOT / "docs" / "how-to" / "secure.md").read_text()
    return re.findall(r"\| `(tests/\S+::\w+)` \|$", text, re.MULTILINE)


@pytest.mark.parametrize("promise", promises())
def test_every_promise_has_its_test(promise: str) -> None:
    file, _, name = promise.partition("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_there_are_promises() -> None:
    assert len(promises()) > 20
