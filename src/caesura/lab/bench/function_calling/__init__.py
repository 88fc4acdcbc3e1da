"""Latency of function calling on the real engine, modes side by side (docs/results/async.md)."""

from caesura.lab.bench.function_calling.bfcl import BFCL_SUITES, Dependencies, load_bfcl
from caesura.lab.bench.function_calling.cases import Case, CaseError, KnownCall, Suite
from caesura.lab.bench.function_calling.run import run_function_calling
from caesura.lab.bench.function_calling.settings import SUITES, FunctionCallingSettings

__all__ = [
    "BFCL_SUITES",
    "SUITES",
    "Case",
    "CaseError",
    "Dependencies",
    "FunctionCallingSettings",
    "KnownCall",
    "Suite",
    "load_bfcl",
    "run_function_calling",
]
