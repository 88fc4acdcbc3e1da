// A session's timeline: bars for generations and calls, growing while they last.

import { serverSeconds } from "./clock.js";
import { coloured, el, fill, hint, say } from "./dom.js";
import { duration } from "./format.js";

const MOST_MARKS = 8;
const MARK_WIDTH = 64;
const STEPS = [0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
const KEYS = [["generating", "Generating"], ["calling", "Call"], ["human", "Waiting for a human"], ["paused", "Paused by its user"]];
const COLOURS = { generating: "generating", calling: "calling", waits: "human", paused: "paused" };

/** The timeline of one session; `chosen` is told of a span that is clicked. */
export class Timeline {
  constructor(spans, chosen) {
    this.spans = spans;
    this.chosen = chosen;
    this.bars = new Map();
    this.lanes = [];
    this.area = el("div", { class: "lanes" });
    this.axis = el("div", { class: "axis", "aria-hidden": "true" }, ...Array.from({ length: MOST_MARKS }, () => el("span")));
    const keys = KEYS.map(([colour, label]) => el("li", {}, coloured(el("span", { class: "swatch" }), colour), label));
    this.element = el("div", { class: "timeline" }, this.area,
      el("div", { class: "lane" }, el("span"), this.axis), el("ul", { class: "legend" }, ...keys));
  }

  /** Draw what is known, up to now. */
  show() {
    const from = this.spans.from ?? serverSeconds();
    const to = Math.max(this.spans.to ?? serverSeconds(), from + 1);
    const place = (seconds) => `${(100 * (seconds - from)) / (to - from)}%`;
    const wanted = this.spans.lanes().map((lane, index) => {
      const row = (this.lanes[index] ??= makeLane());
      hint(say(row.name, lane.name === "model" ? "Model" : lane.name), lane.name);
      fill(row.track, lane.spans.map((span) => this.bar(span, place, to)));
      return row.element;
    });
    fill(this.area, wanted);
    this.mark(to - from);
  }

  /** Round times, none so near the end that it would not fit. */
  mark(seconds) {
    const marks = Math.min(MOST_MARKS, Math.max(2, Math.floor(this.axis.clientWidth / MARK_WIDTH)));
    const step = STEPS.find((one) => one * marks >= seconds) ?? Math.ceil(seconds / marks / 86400) * 86400;
    [...this.axis.children].forEach((mark, index) => {
      const part = (index * step) / seconds;
      mark.hidden = index >= marks || part > 0.95;
      mark.style.left = `${100 * part}%`;
      say(mark, index ? duration(index * step) : "0");
    });
  }

  bar(span, place, to) {
    const bar = this.bars.get(span.key) ?? this.makeBar(span);
    const end = span.to ?? to;
    bar.style.left = place(span.from);
    bar.style.width = `calc(${place(end)} - ${place(span.from)})`;
    bar.classList.toggle("failed", span.failed);
    const said = `${span.label}, ${span.to === null ? "for " : ""}${duration(end - span.from)}${span.outcome ? `, ${span.outcome}` : ""}`;
    return hint(hint(bar, said), said, "aria-label");
  }

  makeBar(span) {
    const bar = coloured(el("button", { type: "button", class: `span ${span.kind}`, onclick: () => this.chosen(span) }), COLOURS[span.kind]);
    this.bars.set(span.key, bar);
    return bar;
  }
}

function makeLane() {
  const name = el("span", { class: "name" });
  const track = el("div", { class: "track" });
  return { name, track, element: el("div", { class: "lane" }, name, track) };
}
