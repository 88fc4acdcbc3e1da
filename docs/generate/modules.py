"""Write docs/explanation/modules.md: every module of the package with its first line.

Run it from the root of a checkout: `python docs/generate/modules.py`.
"""

import ast
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "caesura"
PAGE = ROOT / "docs" / "explanation" / "modules.md"

HEAD = """# Modules

Every module with the first line of its docstring. Written by `python docs/generate/modules.py`;
what the packages are for and which may use which is in [architecture.md](architecture.md).
"""


def first_line(file: Path) -> str:
    """Return the first sentence of a module's docstring, or its first line."""
    paragraph = (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


def page() -> str:
    """Return the page: a section for each package, a line for each module."""
    files = [file for file in SOURCE.rglob("*.py") if file.name != "__init__.py"]
    files.sort(key=lambda file: (file.parent.relative_to(SOURCE).parts, file.name))
    sections = [HEAD]
    for folder, modules in groupby(files, key=lambda file: file.parent):
        package = ".".join(("caesura", *folder.relative_to(SOURCE).parts))
        about = first_line(folder / "__init__.py")
        lines = [f"* `{file.stem}`: {first_line(file)}" for file in modules]
        sections.append("\n".join([f"## {package}\n", *([f"{about}\n"] if about else []), *lines]))
    return "\n\n".join(section.strip() for section in sections) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
