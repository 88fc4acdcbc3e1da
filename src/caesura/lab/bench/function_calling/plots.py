"""Plots of a benchmark of function calling."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from caesura.lab.bench.function_calling.records import CaseRun, PlayedCase
from caesura.lab.bench.function_calling.stats import arm_name
from caesura.lab.figures import BLACK, BLUE, GREY, ORANGE, new_figure, open_frame
from caesura.session.calling import SpanKind

_WRITING, _EXECUTING, _WAITING, _GENERATING = BLACK, BLUE, ORANGE, GREY


def case_figures(played: Sequence[PlayedCase]) -> dict[str, Figure]:
    """All plots; none without a correct run."""
    runs = [one.run for one in played if one.run.correct]
    if not runs:
        return {}
    figures = {"latency": latency_figure(runs)}
    if all(run.policy is None for run in runs):
        figures["timeline"] = timeline_figure(played)
    return figures


def latency_figure(runs: Sequence[CaseRun]) -> Figure:
    """Latency of all cases by mode, as boxes; the bars beside them are the bounds."""
    figure = new_figure(7.0, 4.0)
    axes = figure.subplots()
    names = list(dict.fromkeys(map(arm_name, runs)))
    measured = [[run.latency_s for run in runs if arm_name(run) == name] for name in names]
    bounds = [[run.bound_s for run in runs if arm_name(run) == name] for name in names]
    places = list(range(len(names)))
    for values, offset, colour in ((measured, -0.18, _EXECUTING), (bounds, 0.18, _GENERATING)):
        boxes = axes.boxplot(
            values,
            positions=[place + offset for place in places],
            widths=0.3,
            patch_artist=True,
            showfliers=False,
            medianprops={"color": _WRITING},
        )
        for box in boxes["boxes"]:
            box.set_facecolor(colour)
    axes.set_xticks(places, names)
    axes.set_ylabel("latency of a case (s)")
    axes.set_ylim(bottom=0)
    axes.legend(
        handles=[
            Patch(color=_EXECUTING, label="measured"),
            Patch(color=_GENERATING, label="bound for the measured G and E"),
        ],
        frameon=False,
    )
    axes.grid(True, axis="y", alpha=0.25)
    open_frame(axes)
    return figure


def timeline_figure(played: Sequence[PlayedCase]) -> Figure:
    """The case with the most calls, mode by mode: when each call was written and executed."""
    correct = [one for one in played if one.run.correct]
    largest = max(correct, key=lambda one: one.run.calls).run
    shown: dict[str, PlayedCase] = {}
    for one in correct:
        if one.run.case == largest.case and one.run.repetition == largest.repetition:
            shown.setdefault(arm_name(one.run), one)
    rows = largest.calls
    figure = new_figure(9.0, 1.0 + len(shown) * max(1.2, 0.16 * rows))
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, one) in zip(panels, shown.items(), strict=True):
        _draw_case(axes, one)
        axes.set_title(f"{name}: {one.run.latency_s:.2f} s", fontsize=9, loc="left")
    panels[-1].set_xlabel("time (s)")
    legend = (
        (_WRITING, "call is written"),
        (_EXECUTING, "call is executed"),
        (_WAITING, "result waits for its place"),
        (_GENERATING, "model generates"),
    )
    figure.legend(
        handles=[Patch(color=colour, label=label) for colour, label in legend],
        loc="outside upper center",
        ncols=4,
        fontsize=8,
        frameon=False,
    )
    return figure


def _draw_case(axes: Axes, one: PlayedCase) -> None:
    timeline, zero = one.timeline, one.timeline.began_at
    generating = [
        (span.began_at - zero, span.ended_at - span.began_at)
        for span in timeline.spans
        if span.kind is SpanKind.GENERATING and span.ended_at is not None
    ]
    axes.broken_barh(generating, (-1.4, 0.8), facecolors=_GENERATING)
    for row, call in enumerate(timeline.calls):
        done = one.executed[call.id or ""]
        bars = [(call.opened_at, call.issued_at, _WRITING)]
        if done.ended_at is not None:
            bars.append((done.began_at, done.ended_at, _EXECUTING))
            if call.injected_at is not None:
                bars.append((done.ended_at, call.injected_at, _WAITING))
        axes.broken_barh(
            [(since - zero, until - since) for since, until, _ in bars],
            (row - 0.4, 0.8),
            facecolors=[colour for _, _, colour in bars],
        )
    axes.set_ylim(len(timeline.calls), -2)
    axes.set_yticks([])
    axes.set_ylabel("calls")
    open_frame(axes)
