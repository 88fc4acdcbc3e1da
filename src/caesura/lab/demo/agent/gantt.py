"""Rounds as a Gantt chart: who did what when, modes under each other."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from caesura.bundled.world import ENDPOINTS
from caesura.cml import Mode
from caesura.lab.demo.agent.play import Recording
from caesura.lab.demo.agent.summary import Round
from caesura.lab.figures import (
    BLACK,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    PURPLE,
    SKY,
    new_figure,
    open_frame,
)
from caesura.session.calling import CallSpan, SpanKind

_WRITING, _PAUSED, _TRAP = GREEN, LIGHT_GREY, BLACK
_ISSUING, _RUNNING, _INJECTED = ORANGE, SKY, PURPLE
_BAR = 0.7
_LANE_INCHES = 0.24
_PANEL_INCHES = 0.75
_LEGEND_INCHES = 0.9
_WIDTH_INCHES = 10.0


def gantt_figure(played: Sequence[Round]) -> Figure:
    """A panel for each round, with a shared axis of time for its modes."""
    heights = [_lanes(one) * _LANE_INCHES + _PANEL_INCHES for one in played]
    figure = new_figure(_WIDTH_INCHES, sum(heights) + _LEGEND_INCHES)
    panels = figure.subplots(len(played), 1, squeeze=False, height_ratios=heights)
    for axes, one in zip(panels[:, 0], played, strict=True):
        _draw_round(axes, one)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return figure


def _lanes(one: Round) -> int:
    return sum(1 + len(recording.timeline.calls) for recording in one.recordings.values())


def _draw_round(axes: Axes, one: Round) -> None:
    axes.set_title(one.question.text, loc="left", fontsize=10)
    labels: list[str] = []
    for mode in Mode:
        recording = one.recordings[mode]
        if labels:
            axes.axhline(len(labels) - 0.5, color=GREY, linewidth=0.6)
        wrong = ", wrong" if recording.mistakes else ""
        axes.text(
            1.01,
            len(labels),
            f"{mode.value}: {recording.seconds:.2f} s{wrong}",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=9,
            fontweight="bold",
        )
        _draw_model(axes, recording, len(labels))
        labels.append("model")
        for call in recording.timeline.calls:
            _draw_call(axes, call, recording.timeline.began_at, len(labels))
            labels.append(f"{call.id or call.name} ({ENDPOINTS.get(call.name, '?')})")
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    longest = max(recording.seconds for recording in one.recordings.values())
    axes.set_xlim(0, longest * 1.02)
    axes.set_xlabel("seconds since the question", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    open_frame(axes)


def _draw_model(axes: Axes, recording: Recording, row: int) -> None:
    began = recording.timeline.began_at
    for span in recording.timeline.spans:
        if span.ended_at is not None:
            colour = _WRITING if span.kind is SpanKind.GENERATING else _PAUSED
            axes.barh(
                row, span.ended_at - span.began_at, _BAR, left=span.began_at - began, color=colour
            )
    traps = [at - began for at in recording.traps]
    axes.plot(traps, [row - _BAR / 2] * len(traps), "v", color=_TRAP, markersize=4)


def _draw_call(axes: Axes, call: CallSpan, began: float, row: int) -> None:
    axes.barh(row, call.generation_seconds, _BAR, left=call.opened_at - began, color=_ISSUING)
    if call.started_at is None or call.finished_at is None:
        return
    seconds = call.finished_at - call.started_at
    axes.barh(row, seconds, _BAR, left=call.started_at - began, color=_RUNNING)
    if call.injected_at is not None:
        times = [call.finished_at - began, call.injected_at - began]
        axes.plot(times, [row, row], ":", color=_RUNNING, linewidth=1.5)
        axes.plot(times[1:], [row], "D", color=_INJECTED, markersize=5)


def _legend() -> list[Patch | Line2D]:
    return [
        Patch(color=_WRITING, label="model writes"),
        Patch(color=_PAUSED, label="model is paused"),
        Line2D([], [], marker="v", color=_TRAP, linestyle="", markersize=5, label="trap"),
        Patch(color=_ISSUING, label="call is written"),
        Patch(color=_RUNNING, label="tool runs"),
        Line2D([], [], marker="D", color=_INJECTED, linestyle="", label="result is in the context"),
    ]
