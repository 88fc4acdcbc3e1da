"""A calibration as a picture: what was measured, and what the profile says."""

from collections.abc import Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from caesura.lab.calibrate.iteration_fit import IterationSample
from caesura.lab.calibrate.measure import Calibration
from caesura.lab.figures import BLUE, COLOURS, GREY, VERMILION, grid_lines, new_figure
from caesura.policy.profile import DeviceProfile


def predicted_seconds(profile: DeviceProfile, sample: IterationSample) -> float:
    """What the profile says that an iteration takes."""
    return profile.iteration_seconds(
        sample.query_tokens, sample.context_tokens, sample.sequences, sample.attention_pairs
    )


def calibration_figure(result: Calibration) -> Figure:
    """Measured points and the fit: prefilling on the left, decoding on the right."""
    figure = new_figure(10.0, 4.2)
    prefill, decode = figure.subplots(1, 2)
    alone = [s for s in result.samples if s.sequences == 1]
    first = [s for s in alone if s.context_tokens == s.query_tokens]
    after = [s for s in alone if s not in first and not s.decodes]
    _draw(prefill, result.profile, first, BLUE, "first chunk")
    _draw(prefill, result.profile, after, VERMILION, "chunks after a context")
    point = result.profile.saturation_tokens
    prefill.axvline(point, color=GREY, linestyle=":", label=f"saturation point {point}")
    prefill.set_xlabel("tokens of the sequence at the end of the iteration")
    prefill.set_title("one prompt; lines: the fit", fontsize=9)
    decoding = [s for s in result.samples if s.decodes]
    sizes = sorted({s.sequences for s in decoding})
    for size, colour in zip(sizes, cycle(COLOURS[1:]), strict=False):
        group = [s for s in decoding if s.sequences == size]
        _draw(decode, result.profile, group, colour, f"{size} at once")
    decode.set_xlabel("context of all sequences (tokens)")
    decode.set_title("decoding; lines: the fit", fontsize=9)
    for axes in (prefill, decode):
        axes.set_ylabel("ms per iteration")
        axes.set_ylim(bottom=0)
        grid_lines(axes)
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
