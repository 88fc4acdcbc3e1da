"""A profile under load from a trace: what `caesura calibrate trace` does."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from caesura.console import plain_console
from caesura.lab.bench.arms import STOCK_ARMS
from caesura.lab.calibrate.figures_table import figures_table
from caesura.lab.calibrate.settings import LoadCalibrationSettings
from caesura.lab.calibrate.trace_fit import FROM_BASE, LoadCalibration, fit_under_load
from caesura.lab.calibrate.trace_iterations import read_iterations
from caesura.lab.results_file import Origin, replace_json
from caesura.policy.profile import DeviceProfile


def run_load_calibration(
    settings: LoadCalibrationSettings, *, command: str, console: Console | None = None
) -> LoadCalibration:
    """Fit, show the tables, and write the profile.

    Raises:
        FileNotFoundError: no such trace.
        ValueError: the trace or the base profile cannot be used.
    """
    console = console or plain_console()
    base = DeviceProfile.load(settings.base_path)
    document = json.loads(settings.base_path.read_text("utf-8-sig"))
    calibration = document.get("calibration") or {}
    iterations, rows = read_iterations(
        settings.trace_path, settings.policies, without=[one.name for one in STOCK_ARMS]
    )
    result = fit_under_load(
        iterations, base, base_has_knee=bool(calibration.get("saturation_is_a_knee"))
    )
    remarks = dict.fromkeys(FROM_BASE, "base profile")
    if result.saturation_is_from_base:
        remarks["saturation_tokens"] = "base profile"
    columns = {"base": base, "under load": result.profile}
    console.print(figures_table(columns, result.profile, remarks))
    console.print(residuals_table(result))
    console.print(
        f"{result.iterations} iterations of {', '.join(rows)}; {result.back_to_back} timed until "
        f"the next one began. {result.stalls} stalls ({result.stall_seconds:.2f} s) left out."
    )
    if settings.json_path is not None:
        replace_json(settings.json_path, _document(result, settings, rows, Origin(command)))
        console.print(f"Profile: {settings.json_path}")
    return result


def residuals_table(result: LoadCalibration) -> Table:
    """Predicted against measured, by kind of iteration."""
    table = Table(title="iterations, without stalls", title_justify="left")
    table.add_column("kind")
    columns = ("count", "measured ms", "base ms", "fit ms", "mean", "median", "p90")
    for column in columns:
        table.add_column(column, justify="right")
    for group in result.residuals:
        table.add_row(
            group.kind,
            str(group.count),
            f"{group.seconds * 1e3:.2f}",
            f"{group.base_seconds * 1e3:.2f}",
            f"{group.predicted_seconds * 1e3:.2f}",
            f"{group.predicted_seconds / group.seconds - 1:+.1%}",
            f"{group.median_error:.0%}",
            f"{group.p90_error:.0%}",
        )
    table.caption = "mean: of the mean time; median, p90: of absolute relative errors"
    return table


def _document(
    result: LoadCalibration, settings: LoadCalibrationSettings, rows: Sequence[str], origin: Origin
) -> dict[str, object]:
    """The profile, and beside it how it was made."""
    return json.loads(result.profile.to_json()) | {
        "calibration": {
            **origin.entries(),
            "trace": settings.trace_path.name,
            "rows": list(rows),
            "base": json.loads(result.base.to_json()),
            "iterations": result.iterations,
            "back_to_back": result.back_to_back,
            "stalls": result.stalls,
            "stall_seconds": result.stall_seconds,
            "scale": result.scale,
            "saturation_is_a_knee": result.saturation_is_from_base,
            "residuals": [asdict(group) for group in result.residuals],
        }
    }
