// Pause durations by endpoint, and tools.

import { el, empty, fill, svg } from "./dom.js";
import { count, duration } from "./format.js";

const SHOWN = 12;

/** Predicted against actual durations on a common logarithmic scale. */
export function showEndpoints(body, engine) {
  const endpoints = engine?.endpoints.slice(0, SHOWN) ?? [];
  if (!endpoints.length) {
    fill(body, [empty("No pauses yet", "What contexts have waited for is listed here: tools, humans, clients.")]);
    return;
  }
  const known = endpoints.filter((one) => one.returns);
  const seconds = known.flatMap((one) => [one.predicted_mean_seconds, one.actual_mean_seconds]).map((s) => Math.max(s, 1e-3));
  const scale = logScale(Math.min(...seconds), Math.max(...seconds));
  const rows = endpoints.map((one) => el("tr", {},
    el("td", { title: one.endpoint }, one.endpoint),
    el("td", { class: "number wide" }, count(one.pauses)),
    el("td", { class: "number" }, duration(one.predicted_mean_seconds)),
    el("td", { class: "number" }, duration(one.actual_mean_seconds)),
    el("td", {}, one.returns ? dumbbell(one, scale) : "")));
  const keys = el("p", { class: "keys", "aria-hidden": "true" },
    el("span", {}, el("i", { class: "predicted" }), "predicted"), el("span", {}, el("i", { class: "actual" }), "actual"));
  fill(body, [keys, table(["Waits for", "Pauses|number wide", "Predicted|number", "Actual|number", "|scale"], rows)]);
}

/** Calls of each tool. */
export function showTools(body, tools) {
  if (!tools.length) {
    fill(body, [empty("No tools", "Tools are configured in the server’s configuration file.")]);
    return;
  }
  const rows = tools.map((tool) => {
    const all = Object.values(tool.calls).reduce((sum, calls) => sum + calls, 0);
    const refused = tool.calls.refused ?? 0;
    const failed = all - refused - (tool.calls.succeeded ?? 0) - (tool.calls.cancelled ?? 0);
    return el("tr", {},
      el("td", { title: tool.name }, tool.name),
      el("td", { class: "number" }, count(all)),
      el("td", { class: failed ? "number problem" : "number quiet" }, count(failed)),
      el("td", { class: "number quiet" }, count(refused)),
      el("td", { class: "number" }, duration(tool.mean_seconds)));
  });
  fill(body, [table(["Tool", "Calls|number", "Failed|number", "Refused|number", "Mean time|number"], rows)]);
}

function table(heads, rows) {
  const cells = heads.map((head) => {
    const [label, name = ""] = head.split("|");
    return el("th", { class: name, scope: "col" }, label);
  });
  return el("table", {}, el("thead", {}, el("tr", {}, ...cells)), el("tbody", {}, ...rows));
}

function logScale(low, high) {
  const from = Math.log(low), to = Math.log(high);
  return (seconds) => (to - from < 1e-9 ? 50 : 6 + 88 * (Math.log(Math.max(seconds, 1e-3)) - from) / (to - from));
}

function dumbbell(one, scale) {
  const predicted = scale(one.predicted_mean_seconds), actual = scale(one.actual_mean_seconds);
  const said = `${one.endpoint}: predicted ${duration(one.predicted_mean_seconds)}, actual ${duration(one.actual_mean_seconds)}`;
  return svg("svg", { class: "dumbbell", role: "img", "aria-label": said },
    svg("line", { x1: "0%", x2: "100%", y1: 11, y2: 11 }),
    svg("line", { class: "link", x1: `${predicted}%`, x2: `${actual}%`, y1: 11, y2: 11 }),
    svg("circle", { class: "actual", cx: `${actual}%`, cy: 11, r: 4.5 }),
    svg("circle", { class: "predicted", cx: `${predicted}%`, cy: 11, r: 4.5, "fill-opacity": 0 }));
}
