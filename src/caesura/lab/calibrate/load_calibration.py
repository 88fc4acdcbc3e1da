"""A profile under load from a trace: what `caesura calibrate trace` does."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from caesura.lab.calibrate.figure_units import UNITS
from caesura.lab.calibrate.settings import LoadCalibrationSettings
from caesura.lab.calibrate.trace_fit import LoadCalibration, fit_under_load, read_iterations
from caesura.lab.sim.settings import STOCK_POLICIES
from caesura.policy.profile import FIGURES, DeviceProfile


def run_load_calibration(
    settings: LoadCalibrationSettings, *, command: str, console: Console | None = None
) -> LoadCalibration:
    """Fit, show the tables, and write the profile.

    Raises:
        FileNotFoundError: no such trace.
        ValueError: the trace or the base profile cannot be used.
    """
    console = console or Console()
    base = DeviceProfile.load(settings.base_path)
    document = json.loads(settings.base_path.read_text("utf-8"))
    calibration = document.get("calibration") or {}
    iterations, rows = read_iterations(
        settings.trace_path, settings.policies, without=STOCK_POLICIES
    )
    result = fit_under_load(
        iterations, base, base_has_knee=bool(calibration.get("saturation_is_a_knee"))
    )
    console.print(figures_table(result))
    console.print(residuals_table(result))
    console.print(
        f"{result.iterations} iterations of {', '.join(rows)}; {result.back_to_back} timed until "
        f"the next one began. {result.stalls} stalls ({result.stall_seconds:.2f} s) left out."
    )
    if settings.json_path is not None:
        settings.json_path.parent.mkdir(parents=True, exist_ok=True)
        settings.json_path.write_text(_document(result, settings, rows, command), "utf-8")
        console.print(f"Profile: {settings.json_path}")
    return result


def figures_table(result: LoadCalibration) -> Table:
    """The figures beside those of the base profile."""
    profile, base = result.profile, result.base
    table = Table(title=f"{profile.model} on {profile.name}", title_justify="left")
    table.add_column("figure")
    table.add_column("base", justify="right")
    table.add_column("under load", justify="right")
    table.add_column("source")
    for figure in FIGURES:
        label, factor = UNITS[figure]
        values = [getattr(which, figure) * factor for which in (base, profile)]
        shown = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
        from_base = figure in ("kv_bytes_per_token", "link_bytes_per_second")
        if figure == "saturation_tokens":
            from_base = result.saturation_is_from_base
        source = profile.source(figure) + (", base profile" if from_base else "")
        table.add_row(label, *shown, source)
    return table


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
    result: LoadCalibration, settings: LoadCalibrationSettings, rows: Sequence[str], command: str
) -> str:
    """The profile, and beside it how it was made."""
    document = json.loads(result.profile.to_json())
    document["calibration"] = {
        "command": command,
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
    return json.dumps(document, indent=1) + "\n"
