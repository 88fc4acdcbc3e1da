"""Imports point one way: each room of the package may use only what its rule names."""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "caesura"
SOURCE = Path(__file__).parent.parent / "src" / PACKAGE

EVERYTHING = frozenset({"*"})
# What all rooms of the laboratory may use.
LAB_FLOOR = frozenset(
    {
        "PRODUCT",
        "lab.machine",
        "lab.progress",
        "lab.settings",
        "lab.figures",
        "lab.results_file",
        "lab.report",
    }
)
# Which rooms of ours a room may use besides itself and the root modules: the product first, then
# the laboratory, which nothing of the product uses. A room without a rule fails the test.
MAY_USE = {
    "policy": frozenset[str](),
    "policy_options": frozenset({"policy"}),
    "model_cache": frozenset[str](),
    "cml": frozenset[str](),
    "tools": frozenset({"cml"}),
    "session": frozenset({"cml", "session.returns", "tools"}),
    "session.returns": frozenset[str](),  # what the engine reports of a context
    # Modules at the top of `engine` that describe it, and that its rooms may use.
    "engine.config": frozenset({"policy", "policy_options"}),
    "engine.protocol": frozenset({"policy"}),
    "engine.flags": frozenset({"engine.config", "engine.protocol", "policy"}),
    "engine.guard": frozenset[str](),
    "engine.seams": frozenset[str](),
    "engine.metrics": frozenset({"engine.guard", "policy"}),
    "engine.support": frozenset[str](),
    "engine.versions": frozenset[str](),
    # The rooms of `engine`.
    "engine.copies": frozenset({"engine.config", "engine.metrics", "engine.protocol", "policy"}),
    "engine.pauses": frozenset(
        {
            "engine.config",
            "engine.copies",
            "engine.guard",
            "engine.metrics",
            "engine.protocol",
            "policy",
            "session.returns",
        }
    ),
    "engine.tracing": frozenset(
        {"engine.config", "engine.copies", "engine.guard", "engine.pauses", "policy"}
    ),
    "engine.model": frozenset({"cml", "engine.protocol", "session"}),
    "engine.serving": frozenset(
        {
            "cml",
            "engine.config",
            "engine.flags",
            "engine.metrics",
            "engine.model",
            "engine.protocol",
            "engine.seams",
            "engine.support",
            "engine.versions",
            "model_cache",
            "policy",
            "session",
            "session.returns",
        }
    ),
    # vLLM's hooks, and the door for programs.
    "engine.connector": frozenset(
        {
            "engine.config",
            "engine.copies",
            "engine.metrics",
            "engine.protocol",
            "engine.support",
            "policy",
        }
    ),
    "engine.scheduler": frozenset(
        {
            "engine.config",
            "engine.connector",
            "engine.copies",
            "engine.guard",
            "engine.metrics",
            "engine.model",
            "engine.pauses",
            "engine.protocol",
            "engine.seams",
            "engine.serving",
            "engine.support",
            "engine.tracing",
            "engine.versions",
            "policy",
        }
    ),
    "engine": frozenset({"engine.config", "engine.serving"}),
    "server": frozenset({"session", "session.returns", "tools", "cml"}),
    "chat": frozenset[str](),  # it knows the server by its HTTP API only
    "bundled": frozenset({"tools"}),
    "cli": EVERYTHING,
    "__main__": EVERYTHING,
    # The laboratory; `PRODUCT` stands for all of the above but the command line.
    "lab.machine": frozenset[str](),
    "lab.settings": frozenset[str](),
    "lab.progress": frozenset[str](),
    "lab.figures": frozenset[str](),
    "lab.results_file": frozenset({"lab.machine"}),
    "lab.report": frozenset({"lab.results_file"}),
    "lab.models": frozenset({"cml", "model_cache"}),
    "lab.train": LAB_FLOOR | {"lab.models"},
    "lab.bench": LAB_FLOOR | {"lab.models", "lab.train"},
    "lab.sim": LAB_FLOOR | {"lab.models", "lab.train", "lab.bench"},
    "lab.demo": LAB_FLOOR | {"lab.models", "lab.train", "lab.bench"},
    "lab.calibrate": LAB_FLOOR | {"lab.models", "lab.bench", "lab.sim"},
    "lab": frozenset[str](),
}
# Modules at the root of the package that everybody may use and that use nothing of ours.
ROOT_MODULES = frozenset(
    {
        "__init__",
        "allowance",
        "console",
        "endpoints",
        "errors",
        "logs",
        "processes",
        "units",
        "variables",
    }
)
# Rooms that reach for nothing outside the standard library but these.
OUTSIDE_ALLOWED = {"policy": frozenset({"numpy"}), "cml": frozenset[str]()}
# vLLM is imported in `engine`, and in files that say so by their name.
ON_VLLM = re.compile(r"caesura\.engine(\..*)?|caesura\.server\.plugin|caesura\.(\w+\.)*vllm_\w+")
# The server's adapters may use what `engine` has for vLLM, too.
SERVER_ON_VLLM = re.compile(r"caesura\.server\.(plugin|(\w+\.)*vllm_\w+)")


@dataclass(frozen=True, slots=True)
class Import:
    """One import of a module by its absolute name, `caesura.engine.pauses.holds` for instance."""

    line: int
    module: str
    name: str | None = None

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
            for alias in node.names:
                # `from caesura import engine` imports a room; of others the base is enough.
                full = f"{base}.{alias.name}" if base == PACKAGE else base
                yield Import(node.lineno, full, alias.name)


def room_of(module: str) -> str:
    """Return the room that a module of ours belongs to, by the longest name with a rule."""
    names = module.split(".")[1:] or ["__init__"]
    for length in range(len(names), 0, -1):
        if ".".join(names[:length]) in MAY_USE:
            return ".".join(names[:length])
    return names[0]


def objection(module: str, imported: Import) -> str | None:
    """Return why `module` may not import that, or None if it may."""
    room = room_of(module)
    if imported.top == "vllm" and ON_VLLM.fullmatch(module) is None:
        return "only engine and files named vllm_*.py import vllm"
    if imported.top != PACKAGE:
        allowed = OUTSIDE_ALLOWED.get(room)
        if allowed is None or imported.top in allowed | sys.stdlib_module_names:
            return None
        return f"{room} uses only {', '.join(['the standard library', *sorted(allowed)])}"
    target = room_of(imported.module)
    if imported.name is not None and f"{target}.{imported.name}" in MAY_USE:
        target = f"{target}.{imported.name}"  # `from caesura.engine import config`
    if room in ROOT_MODULES:
        return f"{room} is a root module, and uses nothing of ours"
    if room not in MAY_USE:
        return f"{room} has no rule yet: add it to MAY_USE in {Path(__file__).name}"
    usable = MAY_USE[room]
    if usable is EVERYTHING or target in {room, *usable, *ROOT_MODULES}:
        return None
    product = not target.startswith(("lab", "cli", "__main__"))
    if SERVER_ON_VLLM.fullmatch(module) and target.startswith("engine"):
        return None
    if "PRODUCT" in usable and product:
        return None
    return f"{room} uses nothing of ours but {', '.join(sorted(usable)) or 'itself'}"


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


def circles(graph: Mapping[str, set[str]]) -> list[str] | None:
    """Return the modules of a circle of imports, or None if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which modules each module imports, those for type checking included."""
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        targets = graph.setdefault(module, set())
        for imported in imports(source, module):
            submodule = f"{imported.module}.{imported.name}"
            target = submodule if submodule in sources else imported.module
            if target in sources:
                targets.add(target)
    return graph


def test_there_are_no_circles() -> None:
    sources = {}
    for file in SOURCE.rglob("*.py"):
        names = [PACKAGE, *file.relative_to(SOURCE).with_suffix("").parts]
        module = ".".join(names[:-1] if names[-1] == "__init__" else names)
        sources[module] = file.read_text("utf-8")
    assert circles(import_graph(sources)) is None


def test_a_circle_for_type_checking_is_found() -> None:
    sources = {
        "caesura.a": "from caesura.b import B",
        "caesura.b": "if TYPE_CHECKING:\n    from caesura import a",
    }
    assert circles(import_graph(sources)) is not None


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("caesura.policy.decide", "from caesura.engine.pauses.holds import Hold"),
        ("caesura.policy.decide", "import torch"),
        ("caesura.cml.monitor", "import numpy"),
        ("caesura.tools.executor", "from caesura.session import Session"),
        ("caesura.tools.executor", "from caesura import server"),
        ("caesura.session.session", "from caesura.engine import Engine"),
        ("caesura.session.session", "from caesura import engine"),
        ("caesura.session.session", "from ..engine import holds"),
        ("caesura.session.session", "from .. import engine"),
        ("caesura.session.session", "def f():\n    import caesura.engine.pauses.holds"),
        ("caesura.engine.pauses.holds", "from caesura.lab.bench import replay"),
        ("caesura.engine.pauses.holds", "import caesura.cli"),
        ("caesura.lab.bench.replay", "from vllm import LLM"),
        ("caesura.lab.demo.agent", "import vllm.config"),
        ("caesura.cli", "from vllm.v1 import engine"),
        ("caesura.server.clients.history", "from vllm.inputs import TextPrompt"),
        ("caesura.server.clients.history", "from caesura.engine.config import CaesuraConfig"),
        ("caesura.server.clients.plugin", "from vllm.inputs import TextPrompt"),
        ("caesura.units", "from caesura.errors import CaesuraError"),
        ("caesura.engine.copies.transfers", "from caesura.engine.pauses.holds import Hold"),
        ("caesura.engine.pauses.keeper", "from caesura.engine.scheduler import InterceptScheduler"),
        ("caesura.engine.pauses.keeper", "from caesura.engine import scheduler"),
        ("caesura.engine.scheduler", "from caesura.lab.sim.devices import DEVICES"),
        ("caesura.server.plugin", "from caesura.lab import machine"),
        ("caesura.lab.bench.replay", "from caesura.lab.sim.simulate import run"),
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
        ("caesura.engine.pauses.holds", "from caesura.policy import decide"),
        ("caesura.engine.serving.x", "from caesura.session.protocol import Delta"),
        ("caesura.engine.scheduler", "from vllm import LLM"),
        ("caesura.server.clients.vllm_serving", "from vllm.inputs import TextPrompt"),
        ("caesura.server.plugin", "from caesura.engine.config import CaesuraConfig"),
        ("caesura.lab.bench.replay", "from caesura.engine import Engine"),
        ("caesura.cli", "from caesura import lab, engine, units"),
        ("caesura.lab.sim.vllm_engine", "from vllm import LLM"),
        ("caesura.lab.sim.run", "from caesura.engine.pauses.holds import Hold"),
    ],
)
def test_an_allowed_import_passes(module: str, statement: str) -> None:
    assert not violations(statement, module, "src/some/file.py")


def test_a_package_resolves_relative_imports_against_itself() -> None:
    assert not violations("from .types import Pause", "caesura.policy", "f.py", is_package=True)
    assert violations("from ..engine import holds", "caesura.policy", "f.py", is_package=True)
