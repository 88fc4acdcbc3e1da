"""One calibration from settings to files: what `caesura calibrate` does."""

import json
import os
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from caesura.console import plain_console
from caesura.engine.config import CaesuraConfig
from caesura.engine.serving.launch import EngineSettings
from caesura.lab.calibrate.figures_table import figures_table
from caesura.lab.calibrate.iteration_fit import IterationSample
from caesura.lab.calibrate.measure import Calibration, calibrate, copy_bandwidth
from caesura.lab.calibrate.plots import calibration_figure, predicted_seconds
from caesura.lab.calibrate.settings import DEMO, CalibrationSettings
from caesura.lab.figures import save_figures
from caesura.lab.machine import Machine, this_machine
from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.results_file import Origin, replace_json
from caesura.policy.profile import DeviceProfile

DEMO_KV_BYTES = 128 * 2**20
HOST_BYTES = 256 * 2**20
FIT_MEMORY = -1  # vLLM: the longest context that the KV memory can hold


def run_calibration(
    settings: CalibrationSettings, *, command: str, console: Console | None = None
) -> Calibration:
    """Measure, show the table, and write the profile and the plot.

    Raises:
        ConfigurationError: an engine that cannot be measured.
        ValueError: what was measured gives no profile.
    """
    console = console or plain_console()
    is_demo = settings.model == DEMO
    if is_demo and settings.kv_memory_bytes is None:
        settings = settings.model_copy(update={"kv_memory_bytes": DEMO_KV_BYTES})
    machine = this_machine()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of vLLM, while it is imported and started
        result = calibrate(
            EngineSettings(
                model=str(demo_model_path()) if is_demo else settings.model,
                caesura=CaesuraConfig(policy="swap", host_memory=HOST_BYTES),
                kv_memory_bytes=settings.kv_memory_bytes,
                max_model_len=FIT_MEMORY,
                max_num_batched_tokens=settings.max_num_batched_tokens,
                dtype=settings.dtype,
                compute_threads=settings.threads,
            ),
            device=_device_name(machine, settings.threads),
            model=DEMO if is_demo else _model_name(settings.model),
            seconds=settings.seconds,
            progress=lambda line: console.print(line, style="dim"),
        )
    console.print(profile_table(result))
    console.print(samples_table(result.profile, result.samples))
    console.print(
        f"Residuals, median and largest: {_residuals(result.profile, result.samples)} where "
        f"fitted; {_residuals(result.profile, result.checks)} in mixed iterations, not fitted."
    )
    if settings.json_path is not None:
        replace_json(settings.json_path, _document(result, settings, Origin(command, machine)))
        console.print(f"Profile: {settings.json_path}")
    if settings.output_dir is not None:
        figures = {"calibration": calibration_figure(result)}
        (path,) = save_figures(figures, settings.output_dir)
        console.print(f"Plot: {path}")
    return result


def profile_table(result: Calibration) -> Table:
    """The figures, and whether each was measured."""
    knee = "a knee" if result.saturation.knee else "c / a: no knee"
    remarks = {"saturation_tokens": knee}
    table = figures_table({"value": result.profile}, result.profile, remarks)
    if result.copies:
        for out, label in ((True, "out"), (False, "in")):
            bandwidth = copy_bandwidth(result.copies, out)
            table.add_row(f"  copies {label}, GB/s", f"{bandwidth / 1e9:.2f}", "measured")
    return table


def samples_table(profile: DeviceProfile, samples: Sequence[IterationSample]) -> Table:
    """Predicted against measured."""
    table = Table(title="iterations", title_justify="left")
    table.add_column("kind")
    for column in ("query tokens", "sequences", "context", "measured ms", "fit ms", "error"):
        table.add_column(column, justify="right")
    for sample in sorted(samples, key=_order):
        predicted = predicted_seconds(profile, sample)
        table.add_row(
            "decode" if sample.decodes else "prefill",
            str(sample.query_tokens),
            str(sample.sequences),
            f"{sample.context_tokens:.0f}",
            f"{sample.seconds * 1e3:.2f}",
            f"{predicted * 1e3:.2f}",
            f"{predicted / sample.seconds - 1:+.0%}",
        )
    return table


def _order(sample: IterationSample) -> tuple[bool, int, float, int]:
    return sample.decodes, sample.sequences, sample.context_tokens, sample.query_tokens


def _residuals(profile: DeviceProfile, samples: Sequence[IterationSample]) -> str:
    if not samples:
        return "none"
    errors = [abs(predicted_seconds(profile, s) / s.seconds - 1) for s in samples]
    return f"{statistics.median(errors):.0%} and {max(errors):.0%} ({len(errors)})"


def _document(
    result: Calibration, settings: CalibrationSettings, origin: Origin
) -> dict[str, object]:
    """The profile, and beside it what it was made of."""
    return json.loads(result.profile.to_json()) | {
        "calibration": {
            **origin.entries(settings),
            "saturation_is_a_knee": result.saturation.knee,
            "fitted": [asdict(sample) for sample in result.samples],
            "checked": [asdict(sample) for sample in result.checks],
            "copies": [asdict(sample) for sample in result.copies],
        }
    }


def _device_name(machine: Machine, threads: int) -> str:
    if machine.gpu is not None:
        return machine.gpu
    return f"{machine.cpu or 'CPU'}, {threads} thread{'s' if threads > 1 else ''}"


def _model_name(model: str) -> str:
    """A name as given; of a path only its end, since profiles are shared."""
    return Path(model).name if os.path.exists(model) else model
