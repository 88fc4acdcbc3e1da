// Puts the page together: one stream of overviews, and what is shown of it.

import { getJson } from "./api.js";
import { startApprovals } from "./approvals.js";
import { addShares, makeCharts } from "./charts.js";
import { serverSeconds, setServerTime } from "./clock.js";
import { byId, say } from "./dom.js";
import { makeFigures } from "./figures.js";
import { History } from "./history.js";
import { follow } from "./live.js";
import { startDetail } from "./session.js";
import { startSessions } from "./sessions.js";
import { showEndpoints, showTools } from "./tables.js";
import { startTheme } from "./theme.js";

const SHORTEST_SECONDS = 60;

startTheme(byId("theme"));
const range = byId("range");
const status = byId("status");
const history = new History();
const charts = makeCharts();
const showFigures = makeFigures(byId("figures"));
byId("charts").append(...charts.map((chart) => chart.element));

const detail = startDetail({
  stale: (id) => sessions.refresh(id),
  answered: () => updateApprovals(),
});
const sessions = startSessions({ choose: detail.open, changed: detail.changed });
const updateApprovals = startApprovals({
  openSession: (id) => sessions.select(id, true),
  answered: (approval) => sessions.refresh(approval.session_id),
});

let waiting = null;
let tables = "";

function show(overview) {
  setServerTime(overview.time);
  history.add(overview);
  showFigures(overview);
  showCharts();
  const told = JSON.stringify([overview.engine?.endpoints, overview.tools]);
  if (told !== tables) {
    tables = told;
    showEndpoints(document.querySelector("#endpoints .body"), overview.engine);
    showTools(document.querySelector("#tools .body"), overview.tools);
  }
  if (overview.approvals_waiting !== waiting) {
    waiting = overview.approvals_waiting;
    updateApprovals();
    sessions.update();
  }
}

function showCharts() {
  const to = history.rows.at(-1)?.time ?? serverSeconds();
  const rows = history.since(to - Number(range.value));
  addShares(rows);
  const from = Math.max(to - Number(range.value), Math.min(rows[0]?.time ?? to, to - SHORTEST_SECONDS));
  for (const chart of charts) chart.show(rows, from, to);
}

async function loadHistory() {
  try {
    history.load(await getJson(`caesura/overview/history?seconds=${range.value}`));
    showCharts();
  } catch (error) {
    lost(error.message);
  }
}

function lost(message) {
  status.dataset.state = "lost";
  say(status, message);
}

range.addEventListener("change", loadHistory);
await loadHistory();
await follow("caesura/overview/events", {
  signal: new AbortController().signal,
  take: ({ data }) => show(data),
  state: (state, seconds) => {
    if (state === "lost") return lost(`No connection; next attempt in ${seconds} s`);
    if (status.dataset.state === "lost") loadHistory(); // there is a gap since it was lost
    status.dataset.state = "live";
    say(status, "Live");
  },
});
