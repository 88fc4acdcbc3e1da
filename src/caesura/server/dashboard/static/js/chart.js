// One chart over time: areas on top of each other, or lines. uPlot draws; the legend is text.

import { coloured, el, say } from "./dom.js";
import { percent } from "./format.js";
import { colour, onTheme } from "./theme.js";

const WHOLE_STEPS = [1, 2, 5].flatMap((step) => Array.from({ length: 9 }, (_, power) => step * 10 ** power)).sort((one, other) => one - other);
const ZOOMS = [0.02, 0.1, 0.25, 0.5, 1];
const FONT = "11px system-ui, sans-serif";

/**
 * A chart of series `{label, colour, value(row)}`.
 * @param stacked areas on top of each other, the first at the bottom; else lines.
 * @param limit gives what the axis goes up to at least, from the newest row.
 * @param whole values are counts.
 * @param zooms where little of the limit is used, the axis ends at a share of it, and the note says so.
 * @param shown writes a value.
 */
export class Chart {
  constructor({ title, note, series, stacked = false, limit = () => 1, whole = true, zooms = false, shown, missing }) {
    Object.assign(this, { series, stacked, limit, whole, zooms, shown });
    this.rows = [];
    this.from = this.to = 0;
    this.plot = el("div", { class: "plot", role: "img" });
    this.nothing = el("div", { class: "empty" }, missing);
    this.title = title;
    this.note = el("span", { class: "note" }, note);
    this.values = series.map(() => el("b"));
    const legend = series.map((one, index) =>
      el("li", {}, coloured(el("span", { class: stacked ? "swatch" : "swatch line" }), one.colour),
        `${one.label} `, this.values[index]));
    this.element = el("article", { class: "chart" },
      el("header", {}, el("h2", {}, title), this.note),
      this.plot, el("ul", { class: "legend" }, ...legend));
    new ResizeObserver(() => this.resize()).observe(this.plot);
    onTheme(() => this.uplot?.redraw(false));
  }

  /** Show rows (`{time, at(path)}`) of a stretch of time. */
  show(rows, from, to) {
    Object.assign(this, { rows, from, to });
    const has = rows.some((row) => this.series.some((one) => one.value(row) !== null));
    this.nothing.hidden = has;
    if (!has) {
      this.plot.append(this.nothing);
      this.values.forEach((value) => say(value, "–"));
      return;
    }
    this.uplot ??= this.made();
    this.uplot.setData(this.data(), false);
    this.uplot.batch(() => {
      this.uplot.setScale("x", { min: from, max: to });
      this.uplot.setScale("y", { min: 0, max: this.top() });
    });
    this.tell();
  }

  data() {
    const columns = this.series.map((one) => this.rows.map((row) => one.value(row)));
    const times = this.rows.map((row) => row.time);
    if (!this.stacked) return [times, ...columns];
    const sums = [];
    columns.forEach((column, index) => {
      sums.push(column.map((value, at) => (value === null ? null : value + (sums[index - 1]?.[at] ?? 0))));
    });
    return [times, ...sums.reverse()]; // the highest is drawn first, and covered by those below it
  }

  top() {
    const data = this.uplot.data.slice(1);
    const highest = Math.max(0, ...data.map((column) => Math.max(0, ...column.map((value) => value ?? 0))));
    let limit = this.limit(this.rows.at(-1)) || 1;
    if (this.zooms) {
      const share = highest ? ZOOMS.find((zoom) => highest <= zoom * limit) ?? 1 : 1;
      say(this.note, `tokens; the axis ends at ${share < 1 ? `${percent(share)} of ` : ""}the capacity`);
      limit *= share;
    }
    return highest <= limit ? limit : highest * 1.08;
  }

  made() {
    const drawn = this.series.map((one) => this.stacked
      ? { stroke: () => colour("surface"), width: 1, fill: () => colour(one.colour), points: { show: false } }
      : { stroke: () => colour(one.colour), width: 2, points: { show: false } });
    const axis = { stroke: () => colour("quiet"), font: FONT, grid: { stroke: () => colour("grid"), width: 1 }, ticks: { show: false } };
    const options = {
      width: this.plot.clientWidth,
      height: this.plot.clientHeight,
      legend: { show: false },
      cursor: { sync: { key: "time" }, drag: { x: false, y: false }, points: { show: false }, y: false },
      scales: { x: { time: true, auto: false }, y: { auto: false } },
      axes: [
        { ...axis, size: 26, space: 70, grid: { show: false }, values: (_, marks, axis, space, step) => marks.map((mark) => clock(mark, step)) },
        { ...axis, size: 46, space: 34, ...(this.whole ? { incrs: WHOLE_STEPS } : {}), values: (_, marks) => marks.map((mark) => this.shown(mark)) },
      ],
      series: [{}, ...(this.stacked ? drawn.reverse() : drawn)],
      hooks: { setCursor: [() => this.tell()] },
    };
    return new uPlot(options, [[]], this.plot);
  }

  /** Write the values at the cursor, or the newest. */
  tell() {
    const row = this.rows[this.uplot.cursor.idx ?? this.rows.length - 1] ?? this.rows.at(-1);
    this.series.forEach((one, index) => say(this.values[index], this.shown(one.value(row))));
    const newest = this.rows.at(-1);
    const said = this.series.map((one) => `${one.label} ${this.shown(one.value(newest))}`);
    this.plot.setAttribute("aria-label", `${this.title} over time. Now: ${said.join(", ")}.`);
  }

  resize() {
    if (this.plot.clientWidth) this.uplot?.setSize({ width: this.plot.clientWidth, height: this.plot.clientHeight });
  }
}

/** A time of day, as exact as marks that are a step apart need. */
function clock(seconds, step) {
  const second = step < 60 ? { second: "2-digit" } : {};
  return new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...second });
}
