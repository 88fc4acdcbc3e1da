"""One benchmark of function calling from settings to files: `caesura bench calls`."""

import asyncio
from collections.abc import Sequence

from rich.console import Console

from caesura.lab.bench.display import RunsDisplay
from caesura.lab.bench.function_calling.compare_modes import compare_modes
from caesura.lab.bench.function_calling.compare_policies import compare_policies
from caesura.lab.bench.function_calling.records import CaseRun, PlayedCase
from caesura.lab.bench.function_calling.report import FunctionCallingReport
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.function_calling.suites import chosen_cases, load_suite
from caesura.lab.bench.results import Results
from caesura.lab.results_file import Origin


def run_function_calling(
    settings: FunctionCallingSettings, *, command: str, console: Console | None = None
) -> Sequence[CaseRun]:
    """Compare modes or policies, show tables and write JSON, plots and report.md.

    The JSON file is rewritten as runs come. However it ends, on Ctrl-C too, what was measured
    until then is shown and written, and the exception goes on to the caller.

    Args:
        settings: what to run and where results go.
        command: the command line, to stand beside the results.
        console: where progress and tables are shown.

    Returns:
        The figures of all runs.

    Raises:
        CaseError: the suite cannot be used.
        EngineStartError: an engine did not start.
        SessionError: an engine failed.
    """
    suite = load_suite(settings)
    display = RunsDisplay(console)
    report = FunctionCallingReport(settings.suite, suite.skipped)
    results = Results[PlayedCase](settings, Origin(command), report)
    try:
        with display:
            if settings.sessions is None:
                cases = chosen_cases(suite, settings.cases, settings.seed)
                comparison = compare_modes(settings, cases, results.add, display)
            else:
                comparison = compare_policies(settings, suite, results.add, display)
            asyncio.run(comparison)
    finally:
        results.publish(display.console)
    return [played.run for played in results.outcomes]
