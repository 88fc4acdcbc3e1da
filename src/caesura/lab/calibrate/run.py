"""One calibration from settings to files: what `caesura calibrate` does."""

import json
import os
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from caesura.engine.config import CaesuraConfig
from caesura.engine.serving.launch import EngineSettings
from caesura.lab.calibrate.figure_units import UNITS
from caesura.lab.calibrate.iteration_fit import IterationSample
from caesura.lab.calibrate.measure import Calibration, calibrate, copy_bandwidth
from caesura.lab.calibrate.settings import DEMO, CalibrationSettings
from caesura.lab.machine import Machine, this_machine
from caesura.lab.models.noise_model import demo_model_path
from caesura.policy.profile import FIGURES, DeviceProfile
from caesura.units import format_size

DEMO_KV_BYTES = 128 * 2**20
HOST_BYTES = 256 * 2**20
FIT_MEMORY = -1  # vLLM: the longest context that the KV memory can hold

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00")  # as plots.py


def run_calibration(
    settings: CalibrationSettings, *, command: str, console: Console | None = None
) -> Calibration:
    """Measure, show the table, and write the profile and the plot.

    Raises:
        ConfigurationError: an engine that cannot be measured.
        ValueError: what was measured gives no profile.
    """
    console = console or Console()
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
    console.print(figures_table(result))
    console.print(samples_table(result.profile, result.samples))
    console.print(
        f"Residuals, median and largest: {_residuals(result.profile, result.samples)} where "
        f"fitted; {_residuals(result.profile, result.checks)} in mixed iterations, not fitted."
    )
    if settings.json_path is not None:
        settings.json_path.parent.mkdir(parents=True, exist_ok=True)
        settings.json_path.write_text(_document(result, settings, command, machine), "utf-8")
        console.print(f"Profile: {settings.json_path}")
    if settings.output_dir is not None:
        settings.output_dir.mkdir(parents=True, exist_ok=True)
        path = settings.output_dir / "calibration.png"
        calibration_figure(result).savefig(path, dpi=150)
        console.print(f"Plot: {path}")
    return result


def figures_table(result: Calibration) -> Table:
    """The figures, and whether each was measured."""
    profile = result.profile
    table = Table(title=f"{profile.model} on {profile.name}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("source")
    for figure in FIGURES:
        label, factor = UNITS[figure]
        source = profile.source(figure)
        value = getattr(profile, figure) * factor
        if figure == "saturation_tokens":
            source += ", a knee" if result.saturation.knee else ", c / a: no knee"
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(label, shown, source)
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


def predicted_seconds(profile: DeviceProfile, sample: IterationSample) -> float:
    """What the profile says that an iteration takes."""
    return profile.iteration_seconds(
        sample.query_tokens, sample.context_tokens, sample.sequences, sample.attention_pairs
    )


def calibration_figure(result: Calibration) -> Figure:
    """Measured points and the fit: prefilling on the left, decoding on the right."""
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    prefill, decode = figure.subplots(1, 2)
    alone = [s for s in result.samples if s.sequences == 1]
    first = [s for s in alone if s.context_tokens == s.query_tokens]
    after = [s for s in alone if s not in first and not s.decodes]
    _draw(prefill, result.profile, first, _COLOURS[0], "first chunk")
    _draw(prefill, result.profile, after, _COLOURS[1], "chunks after a context")
    point = result.profile.saturation_tokens
    prefill.axvline(point, color="#888888", linestyle=":", label=f"saturation point {point}")
    prefill.set_xlabel("tokens of the sequence at the end of the iteration")
    prefill.set_title("one prompt; lines: the fit", fontsize=9)
    decoding = [s for s in result.samples if s.decodes]
    sizes = sorted({s.sequences for s in decoding})
    for size, colour in zip(sizes, cycle(_COLOURS), strict=False):
        group = [s for s in decoding if s.sequences == size]
        _draw(decode, result.profile, group, colour, f"{size} at once")
    decode.set_xlabel("context of all sequences (tokens)")
    decode.set_title("decoding; lines: the fit", fontsize=9)
    for axes in (prefill, decode):
        axes.set_ylabel("ms per iteration")
        axes.set_ylim(bottom=0)
        axes.grid(True, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8)
    return figure


def _draw(
    axes: Axes,
    profile: DeviceProfile,
    samples: Sequence[IterationSample],
    colour: str,
    label: str,
) -> None:
    if not samples:
        return
    samples = sorted(samples, key=lambda sample: sample.context_tokens)
    x = [sample.context_tokens for sample in samples]
    axes.plot(x, [1e3 * s.seconds for s in samples], "o", color=colour, label=label)
    fit = [1e3 * predicted_seconds(profile, s) for s in samples]
    axes.plot(x, fit, "-", color=colour, linewidth=1)


def _order(sample: IterationSample) -> tuple[bool, int, float, int]:
    return sample.decodes, sample.sequences, sample.context_tokens, sample.query_tokens


def _residuals(profile: DeviceProfile, samples: Sequence[IterationSample]) -> str:
    if not samples:
        return "none"
    errors = [abs(predicted_seconds(profile, s) / s.seconds - 1) for s in samples]
    return f"{statistics.median(errors):.0%} and {max(errors):.0%} ({len(errors)})"


def _document(
    result: Calibration, settings: CalibrationSettings, command: str, machine: Machine
) -> str:
    """The profile, and beside it what it was made of."""
    document = json.loads(result.profile.to_json())
    document["calibration"] = {
        "command": command,
        "machine": asdict(machine),
        "settings": {
            "kv_memory": format_size(settings.kv_memory_bytes)
            if settings.kv_memory_bytes
            else None,
            "threads": settings.threads,
            "dtype": settings.dtype,
            "max_num_batched_tokens": settings.max_num_batched_tokens,
        },
        "saturation_is_a_knee": result.saturation.knee,
        "fitted": [asdict(sample) for sample in result.samples],
        "checked": [asdict(sample) for sample in result.checks],
        "copies": [asdict(sample) for sample in result.copies],
    }
    return json.dumps(document, indent=1) + "\n"


def _device_name(machine: Machine, threads: int) -> str:
    if machine.gpu is not None:
        return machine.gpu
    return f"{machine.cpu or 'CPU'}, {threads} thread{'s' if threads > 1 else ''}"


def _model_name(model: str) -> str:
    """A name as given; of a path only its end, since profiles are shared."""
    return Path(model).name if os.path.exists(model) else model
