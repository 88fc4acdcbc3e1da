"""Suites by name, and which of their cases a run takes."""

from random import Random

from caesura.lab.bench.function_calling.bfcl import load_bfcl
from caesura.lab.bench.function_calling.cases import Case, CaseError, CaseSuite
from caesura.lab.bench.function_calling.demo import demo_suite
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.settings import DEMO


def load_suite(settings: FunctionCallingSettings) -> CaseSuite:
    """All usable cases of the suite of the settings.

    Raises:
        CaseError: there are none, or their data is missing.
    """
    if settings.suite == DEMO:
        count = max(settings.cases, settings.sessions or 0)
        return demo_suite(DEMO, count, settings.seed)
    if settings.data is None:
        raise CaseError(
            f"--suite {settings.suite} needs --data: the folder of BFCL v4's JSONL files "
            "(docs/results/async.md says which)"
        )
    return load_bfcl(
        settings.suite, settings.data, dependencies=settings.dependencies, seed=settings.seed
    )


def chosen_cases(suite: CaseSuite, count: int, seed: int) -> list[Case]:
    """So many cases, drawn without replacement; all of them if there are no more."""
    shuffled = list(suite.cases)
    Random(seed).shuffle(shuffled)
    return shuffled[:count]
