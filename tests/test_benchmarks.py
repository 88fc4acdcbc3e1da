"""Benchmarks, which no test runs, import what there is."""

import ast
import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    "file", sorted(BENCHMARKS.rglob("*.py")), ids=lambda file: str(file.relative_to(BENCHMARKS))
)
def test_a_benchmark_imports_what_there_is(file: Path) -> None:
    imports = [
        node
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("caesura")
    ]
    for node in imports:
        module = importlib.import_module(str(node.module))
        for alias in node.names:
            is_there = hasattr(module, alias.name)
            assert is_there or importlib.import_module(f"{node.module}.{alias.name}")
