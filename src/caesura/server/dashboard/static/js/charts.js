// The charts over time.

import { ACTIVITIES } from "./activity.js";
import { Chart } from "./chart.js";
import { count, percent } from "./format.js";

const of = (path, label, colour) => ({ label, colour, value: (row) => row.at(path) });
const NO_ENGINE = "No figures yet: the engine reports with its first request.";
const RETURNED = ["engine.found_tokens_total", "engine.loaded_tokens_total", "engine.recomputed_tokens_total"];
const MEMORY = "engine.device_token_seconds_total";
const WASTES = ["held", "recomputed", "copied"];
const RECENT_SECONDS = 60;

/** All charts, in their order. */
export function makeCharts() {
  return [
    new Chart({
      title: "Sessions", note: "run by this server", stacked: true, shown: count, limit: () => 4,
      series: Object.entries(ACTIVITIES).map(([key, { label, colour }]) =>
        of(`sessions.by_activity.${key}`, label, colour)),
    }),
    new Chart({
      title: "Contexts", note: "in the engine, including those of clients", stacked: true, shown: count, limit: () => 4, missing: NO_ENGINE,
      series: [
        of("engine.running", "Generating", "generating"),
        of("engine.holding", "Paused: held", "held"),
        of("engine.copied", "copied", "copied"),
        of("engine.dropped", "dropped", "dropped"),
      ],
    }),
    new Chart({
      title: "Device memory", zooms: true, stacked: true, shown: count, missing: NO_ENGINE,
      limit: (row) => row.at("engine.device_tokens"),
      series: [
        of("engine.active_tokens", "In use", "generating"),
        of("engine.held_tokens", "Held for pauses", "held"),
      ],
    }),
    new Chart({
      title: "Host memory", zooms: true, stacked: true, shown: count, missing: NO_ENGINE,
      limit: (row) => row.at("engine.host_tokens"),
      series: [of("engine.host_used_tokens", "Copied", "copied")],
    }),
    new Chart({
      title: "Queue", note: "requests in the engine", shown: count, limit: () => 4, missing: NO_ENGINE,
      series: [
        of("engine.running", "Running", "generating"),
        of("engine.waiting", "Waiting", "queued"),
        of("engine.returning", "of these, returning", "held"),
      ],
    }),
    new Chart({
      title: "Waste", note: "of device memory and of contexts, last minute", whole: false, shown: percent, limit: () => 1, missing: NO_ENGINE,
      series: [
        { label: "Memory held for pauses", colour: "held", value: (row) => row.wasted.held },
        { label: "idle while recomputing", colour: "queued", value: (row) => row.wasted.recomputed },
        { label: "idle for copies", colour: "copied", value: (row) => row.wasted.copied },
        { label: "Recomputed share of what returned", colour: "dropped", value: (row) => row.recomputed },
      ],
    }),
  ];
}

/** Work out what depends on earlier rows: shares of what returned lately, and of memory x time. */
export function addShares(rows) {
  let first = 0;
  for (const row of rows) {
    while (rows[first].time < row.time - RECENT_SECONDS) first += 1;
    const [found, loaded, recomputed] = RETURNED.map((path) => increase(rows[first], row, path));
    const returned = found + loaded + recomputed;
    row.recomputed = row.at(RETURNED[0]) === null ? null : returned ? recomputed / returned : 0;
    const memory = increase(rows[first], row, MEMORY);
    row.wasted = Object.fromEntries(WASTES.map((waste) => {
      const wasted = increase(rows[first], row, `engine.${waste}_token_seconds_total`);
      return [waste, row.at(MEMORY) === null ? null : memory ? wasted / memory : 0];
    }));
  }
}

function increase(before, after, path) {
  return Math.max(0, (after.at(path) ?? 0) - (before.at(path) ?? 0)); // less only after a restart
}
