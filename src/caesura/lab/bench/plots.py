"""Plots of a comparison of policies."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from caesura.lab.bench.replay import ReplayedSession, ReplayEnding
from caesura.lab.bench.stats import RunOutcome, RunReport, normalized_latencies_ms
from caesura.lab.figures import (
    BLACK,
    COLOURS,
    VERMILION,
    grid_lines,
    new_figure,
    open_frame,
    plain_numbers,
)

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GENERATING, _WAITING = BLACK, VERMILION
_PAUSE_COLOURS = ("#9AD0F0", "#F0E442", "#7FCFB6", "#E3B5CF", "#F3CB7A", "#B8B8B8")
_LATENCY_LABEL = "normalized latency (ms per output token)"
_TIMELINE_ROWS = 80
_LINE_STYLES = ("-", "--", ":")

_Value = Callable[[RunReport], float | None]
_RATE_PANELS: tuple[tuple[str, bool, _Value], ...] = (
    (f"mean {_LATENCY_LABEL}", True, lambda run: run.normalized_latency_ms.mean),
    ("completed sessions/s", False, lambda run: run.completed_per_second),
    ("goodput (sessions/s)", False, lambda run: run.goodput_per_second),
    ("p95 TTFT of a resumed turn (ms)", True, lambda run: run.resume_ttft_ms.p95),
    ("p95 TTFT of a first turn (ms)", True, lambda run: run.first_ttft_ms.p95),
    ("longest wait (s)", False, lambda run: run.longest_wait_s),
)


@dataclass(frozen=True, slots=True)
class _Span:
    """One bar of a timeline, in seconds of the replay's clock."""

    since: float
    until: float
    colour: str


def run_figures(outcomes: Sequence[RunOutcome]) -> dict[str, Figure]:
    """What suits a few policies and sessions."""
    return {
        "latency": latency_figure(outcomes),
        "latency_ecdf": ecdf_figure(outcomes),
        "rates": rates_figure(outcomes),
        "timeline": timeline_figure(outcomes),
    }


def rate_figures(outcomes: Sequence[RunOutcome]) -> dict[str, Figure]:
    """What suits many policies and many sessions."""
    return {"rates": rates_figure(outcomes), "latency_ecdf": ecdf_figure(outcomes)}


def rates_figure(outcomes: Sequence[RunOutcome]) -> Figure:
    """Latency, throughput, goodput and waits against rate: median over seeds, band to the
    extremes."""
    figure = new_figure(14.0, 8.5)
    panels = list(figure.subplots(2, 3).flat)
    rates = _rates(outcomes)
    for axes, (label, logarithmic, value) in zip(panels, _RATE_PANELS, strict=True):
        for index, policy in enumerate(_policies(outcomes)):
            of_policy = [o for o in outcomes if o.plan.policy == policy]
            spread = {
                rate: [
                    v
                    for o in of_policy
                    if o.plan.rate == rate and (v := value(o.report)) is not None
                ]
                for rate in rates
            }
            spread = {rate: values for rate, values in spread.items() if values}
            if not spread:
                continue
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(
                list(spread),
                [statistics.median(values) for values in spread.values()],
                label=policy,
                color=colour,
                marker=_MARKERS[index % len(_MARKERS)],
                linestyle=_LINE_STYLES[index // len(COLOURS) % len(_LINE_STYLES)],
                markersize=4,
            )
            axes.fill_between(
                list(spread),
                [min(values) for values in spread.values()],
                [max(values) for values in spread.values()],
                color=colour,
                alpha=0.12,
                linewidth=0,
            )
        if logarithmic and axes.lines:
            axes.set_yscale("log")
            plain_numbers(axes.yaxis)
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.set_xlabel("arrival rate (sessions/s)")
        axes.set_ylabel(label)
        grid_lines(axes)
    figure.suptitle("Median over seeds; bands: lowest to highest seed", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    return figure


def latency_figure(outcomes: Sequence[RunOutcome]) -> Figure:
    """Mean normalized latency against rate: median over seeds, bars from lowest to highest."""
    figure = new_figure(7.0, 4.5)
    axes = figure.subplots()
    for index, policy in enumerate(_policies(outcomes)):
        points: dict[float, list[float]] = {}
        for outcome in outcomes:
            mean_ms = outcome.report.normalized_latency_ms.mean
            if outcome.plan.policy == policy and mean_ms is not None:
                points.setdefault(outcome.plan.rate, []).append(mean_ms)
        rates = sorted(points)
        middle = [statistics.median(points[rate]) for rate in rates]
        axes.errorbar(
            rates,
            middle,
            yerr=(
                [m - min(points[rate]) for m, rate in zip(middle, rates, strict=True)],
                [max(points[rate]) - m for m, rate in zip(middle, rates, strict=True)],
            ),
            label=policy,
            color=COLOURS[index % len(COLOURS)],
            marker=_MARKERS[index % len(_MARKERS)],
            capsize=3,
        )
    axes.set_yscale("log")
    plain_numbers(axes.yaxis)
    axes.set_xticks(_rates(outcomes), [f"{rate:g}" for rate in _rates(outcomes)])
    axes.set_xlabel("arrival rate (sessions/s)")
    axes.set_ylabel(f"mean {_LATENCY_LABEL}")
    axes.set_title("Median over seeds; bars: lowest to highest seed", fontsize=9)
    grid_lines(axes)
    axes.legend()
    return figure


def ecdf_figure(outcomes: Sequence[RunOutcome]) -> Figure:
    """Share of all sessions within a normalized latency, seeds pooled, one panel per rate."""
    rates = _rates(outcomes)
    figure = new_figure(max(5.0, 3.6 * len(rates)), 4.0)
    panels = figure.subplots(1, len(rates), sharey=True, squeeze=False)[0]
    for axes, rate in zip(panels, rates, strict=True):
        for index, policy in enumerate(_policies(outcomes)):
            runs = [o for o in outcomes if o.plan.rate == rate and o.plan.policy == policy]
            latencies = sorted(ms for run in runs for ms in normalized_latencies_ms(run.replay))
            if not latencies:
                continue
            sessions = sum(len(run.replay.sessions) for run in runs)
            axes.step(
                [latencies[0], *latencies],
                [count / sessions for count in range(len(latencies) + 1)],
                where="post",
                label=policy,
                color=COLOURS[index % len(COLOURS)],
                linestyle=("-", "--", "-.", ":")[index % 4],
            )
        axes.set_xscale("log")
        plain_numbers(axes.xaxis)
        axes.tick_params(axis="x", labelsize=7)
        axes.set_ylim(0, 1.02)
        axes.set_title(f"{rate:g} sessions/s", fontsize=9)
        axes.set_xlabel(_LATENCY_LABEL, fontsize=8)
        grid_lines(axes)
    panels[0].set_ylabel("share of sessions")
    if panels[-1].get_legend_handles_labels()[0]:
        panels[-1].legend(loc="lower right", fontsize=8)
    return figure


def timeline_figure(outcomes: Sequence[RunOutcome]) -> Figure:
    """What each session did when, at the highest rate and its first seed, panel by policy."""
    highest = max(_rates(outcomes))
    seed = next(o.plan.seed for o in outcomes if o.plan.rate == highest)
    policies = _policies(outcomes)
    runs = [o for o in outcomes if o.plan.rate == highest and o.plan.seed == seed]
    runs.sort(key=lambda run: policies.index(run.plan.policy))
    rows = min(_TIMELINE_ROWS, max(len(run.replay.sessions) for run in runs))
    figure = new_figure(10.0, 1.2 + len(runs) * max(1.8, 0.07 * rows))
    panels = figure.subplots(len(runs), 1, sharex=True, squeeze=False)[:, 0]
    colours = _endpoint_colours(runs)
    for axes, run in zip(panels, runs, strict=True):
        for row, session in enumerate(run.replay.sessions[:rows]):
            spans = list(_spans(session, run.replay.finished_at, colours))
            _draw_session(axes, row, spans, run.replay.started_at)
        axes.set_ylim(rows, -1)
        axes.set_ylabel("session")
        axes.set_title(run.plan.policy, fontsize=9, loc="left")
        open_frame(axes)
    panels[-1].set_xlabel(f"time (s), {highest:g} sessions/s, seed {seed}")
    legend = [Patch(color=_GENERATING, label="generating")]
    legend += [Patch(color=_WAITING, label="waiting for first token")]
    legend += [Patch(color=colour, label=f"paused: {name}") for name, colour in colours.items()]
    figure.legend(handles=legend, loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    return figure


def _draw_session(axes: Axes, row: int, spans: Sequence[_Span], zero: float) -> None:
    axes.broken_barh(
        [(span.since - zero, span.until - span.since) for span in spans],
        (row - 0.4, 0.8),
        facecolors=[span.colour for span in spans],
    )


def _spans(session: ReplayedSession, end: float, colours: dict[str, str]) -> Iterator[_Span]:
    """What a session did, up to the `end` of the replay if it was not over."""
    for index, turn in enumerate(session.turns):
        if turn.first_token_at is None:
            yield _Span(turn.submitted_at, end, _WAITING)
            return
        yield _Span(turn.submitted_at, turn.first_token_at, _WAITING)
        if turn.finished_at is None:
            yield _Span(turn.first_token_at, end, _GENERATING)
            return
        yield _Span(turn.first_token_at, turn.finished_at, _GENERATING)
        if index + 1 < len(session.turns):
            resumed_at = session.turns[index + 1].submitted_at
        elif session.ending is ReplayEnding.COMPLETED:
            return
        else:
            resumed_at = end
        yield _Span(turn.finished_at, resumed_at, colours[_endpoint(turn.endpoint)])


def _endpoint(name: str | None) -> str:
    return name or "unknown"


def _endpoint_colours(runs: Sequence[RunOutcome]) -> dict[str, str]:
    sessions = [session for run in runs for session in run.replay.sessions]
    paused = [turn for session in sessions for turn in session.turns[:-1]]
    paused += [s.turns[-1] for s in sessions if s.turns and s.ending is not ReplayEnding.COMPLETED]
    paused = [turn for turn in paused if turn.finished_at is not None]
    names = sorted({_endpoint(turn.endpoint) for turn in paused})
    return dict(zip(names, islice(cycle(_PAUSE_COLOURS), len(names)), strict=True))


def _policies(outcomes: Sequence[RunOutcome]) -> list[str]:
    return list(dict.fromkeys(outcome.plan.policy for outcome in outcomes))


def _rates(outcomes: Sequence[RunOutcome]) -> list[float]:
    return sorted({outcome.plan.rate for outcome in outcomes})
