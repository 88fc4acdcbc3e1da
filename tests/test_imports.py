"""Imports point one way: each part of the package may use only what its rule names."""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "caesura"
SOURCE = Path(__file__).parent.parent / "src" / PACKAGE

EVERYTHING = frozenset({"*"})
# Which parts of ours a part may use besides itself and the root modules. A part that is missing
# here has no rule yet, and the test asks for one.
MAY_USE = {
    "policy": frozenset[str](),
    "cml": frozenset[str](),
    "tools": frozenset({"cml"}),
    "session": frozenset({"cml", "tools"}),
    "engine": frozenset({"policy", "session", "cml"}),
    "sim": frozenset({"policy", "engine"}),
    "server": frozenset({"session", "tools", "cml"}),
    "chat": frozenset[str](),  # it knows the server by its HTTP API only
    "train": frozenset({"cml", "tools"}),
    "bench": EVERYTHING,
    "demo": EVERYTHING,
    "cli": EVERYTHING,
    "__main__": EVERYTHING,
}
# Modules at the root of the package that everybody may use and that use nothing of ours.
ROOT_MODULES = frozenset({"__init__", "errors", "logs", "machine", "progress", "units"})
# Parts that reach for nothing outside the standard library but these.
OUTSIDE_ALLOWED = {"policy": frozenset({"numpy"}), "cml": frozenset[str]()}
MAY_IMPORT_VLLM = frozenset({"engine"})
# The server's modules that are made of vLLM's: they may use what `engine` has for it, too.
SERVER_ON_VLLM = re.compile(r"caesura\.server\.(plugin|(\w+\.)*vllm_\w+)")


@dataclass(frozen=True, slots=True)
class Import:
    """One import of a module by its absolute name, `caesura.engine.holds` for instance."""

    line: int
    module: str

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[Import]:
    """Yield what `source` imports anywhere, functions and type-checking blocks included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                climb = node.level - (1 if is_package else 0)
                parents = module.split(".")
                base = ".".join([*parents[: len(parents) - climb], *filter(None, [base])])
            # `from caesura import engine` imports a part; of others the base is enough.
            if base == PACKAGE:
                for alias in node.names:
                    yield Import(node.lineno, f"{base}.{alias.name}")
            else:
                yield Import(node.lineno, base)


def part_of(module: str) -> str:
    """Return the part a module of ours belongs to: `engine` for `caesura.engine.holds`."""
    return [*module.split("."), "__init__"][1]


def objection(module: str, imported: Import) -> str | None:
    """Return why `module` may not import that, or None if it may."""
    part = part_of(module)
    on_vllm = SERVER_ON_VLLM.fullmatch(module) is not None
    if imported.top == "vllm" and part not in MAY_IMPORT_VLLM and not on_vllm:
        return "only engine and the server's adapters import vllm"
    if imported.top != PACKAGE:
        allowed = OUTSIDE_ALLOWED.get(part)
        if allowed is None or imported.top in allowed | sys.stdlib_module_names:
            return None
        return f"{part} uses only {', '.join(['the standard library', *sorted(allowed)])}"
    target = part_of(imported.module)
    if part in ROOT_MODULES:
        return f"{part} is a root module, and uses nothing of ours"
    if part not in MAY_USE:
        return f"{part} has no rule yet: add it to MAY_USE in {Path(__file__).name}"
    usable = MAY_USE[part]
    if on_vllm and target == "engine":
        return None
    if usable is EVERYTHING or target in {part, *usable, *ROOT_MODULES}:
        return None
    return f"{part} uses nothing of ours but {', '.join(sorted(usable)) or 'itself'}"


def violations(source: str, module: str, file: str, *, is_package: bool = False) -> list[str]:
    """Return a line for each forbidden import: file, line, import, reason."""
    return [
        f"{file}:{imported.line}: {module} imports {imported.module}: {reason}"
        for imported in imports(source, module, is_package=is_package)
        if (reason := objection(module, imported))
    ]


def test_imports_point_one_way() -> None:
    found: list[str] = []
    files = sorted(SOURCE.rglob("*.py"))
    for file in files:
        names = [PACKAGE, *file.relative_to(SOURCE).with_suffix("").parts]
        is_package = names[-1] == "__init__"
        module = ".".join(names[:-1] if is_package else names)
        shown = str(file.relative_to(SOURCE.parent.parent))
        found += violations(file.read_text("utf-8"), module, shown, is_package=is_package)
    assert files
    assert not found, "forbidden imports:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("caesura.policy.decide", "from caesura.engine.holds import Hold"),
        ("caesura.policy.decide", "import torch"),
        ("caesura.cml.monitor", "import numpy"),
        ("caesura.tools.executor", "from caesura.session import Session"),
        ("caesura.tools.executor", "from caesura import server"),
        ("caesura.session.session", "from caesura.engine import Engine"),
        ("caesura.session.session", "from caesura import engine"),
        ("caesura.session.session", "from ..engine import holds"),
        ("caesura.session.session", "from .. import engine"),
        ("caesura.session.session", "def f():\n    import caesura.engine.holds"),
        ("caesura.engine.holds", "from caesura.bench import replay"),
        ("caesura.engine.holds", "import caesura.cli"),
        ("caesura.bench.replay", "from vllm import LLM"),
        ("caesura.demo.agent", "import vllm.config"),
        ("caesura.cli", "from vllm.v1 import engine"),
        ("caesura.server.clients.history", "from vllm.inputs import TextPrompt"),
        ("caesura.server.clients.history", "from caesura.engine.config import CaesuraConfig"),
        ("caesura.server.clients.plugin", "from vllm.inputs import TextPrompt"),
        ("caesura.units", "from caesura.errors import CaesuraError"),
        ("caesura.unheard.of", "from caesura.policy import decide"),
    ],
)
def test_a_forbidden_import_is_named_with_file_and_line(module: str, statement: str) -> None:
    source = f'"""Docstring."""\n\n{statement}\n'
    (message,) = violations(source, module, "src/some/file.py")
    line = 4 if statement.startswith("def") else 3
    assert message.startswith(f"src/some/file.py:{line}: {module} imports ")


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("caesura.policy.decide", "import numpy as np, math"),
        ("caesura.policy.decide", "from caesura.policy.types import Pause"),
        ("caesura.policy.decide", "from .types import Pause"),
        ("caesura.policy.decide", "from caesura.errors import CaesuraError"),
        ("caesura.tools.executor", "from caesura.cml import encoder\nimport mcp"),
        ("caesura.session.session", "from caesura.session.protocol import Delta"),
        ("caesura.engine.holds", "from caesura.policy import decide"),
        ("caesura.engine.engine", "from caesura.session.protocol import Delta"),
        ("caesura.engine.engine", "from vllm import LLM"),
        ("caesura.server.clients.vllm_serving", "from vllm.inputs import TextPrompt"),
        ("caesura.server.plugin", "from caesura.engine.config import CaesuraConfig"),
        ("caesura.bench.replay", "from caesura.engine import Engine"),
        ("caesura.cli", "from caesura import bench, demo, engine, units"),
    ],
)
def test_an_allowed_import_passes(module: str, statement: str) -> None:
    assert not violations(statement, module, "src/some/file.py")


def test_a_package_resolves_relative_imports_against_itself() -> None:
    assert not violations("from .types import Pause", "caesura.policy", "f.py", is_package=True)
    assert violations("from ..engine import holds", "caesura.policy", "f.py", is_package=True)
