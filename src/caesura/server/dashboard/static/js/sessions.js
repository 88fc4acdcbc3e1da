// The list of sessions: loaded in pages, searched here.

import { ACTIVITIES, activityOf } from "./activity.js";
import { getJson } from "./api.js";
import { serverSeconds } from "./clock.js";
import { byId, coloured, el, empty, fill, say } from "./dom.js";
import { ago, words } from "./format.js";
import { repeat } from "./live.js";

const SECONDS = 3;
const PAGE = 50;

const FILTERS = {
  all: () => true,
  open: (session) => session.phase !== "ended",
  waiting: (session) => activityOf(session) === "waiting_for_human",
  ended: (session) => session.phase === "ended",
};

/** Keep the list; `choose` is told which session was chosen, `changed` of each that is shown. */
export function startSessions({ choose, changed }) {
  const body = document.querySelector("#sessions .rows");
  const number = document.querySelector("#sessions .list .count");
  const sessions = new Map();
  const rows = new Map();
  let chosen = null;
  let more = false;
  const moreButton = el("button", { class: "more", type: "button", onclick: () => load(oldest()) }, "Older sessions");
  const search = byId("search");
  const filter = byId("filter");
  search.oninput = filter.onchange = show;
  fill(body, [el("p", { class: "empty" }, "Loading…")]);

  const update = repeat(SECONDS, () => load(null));

  async function load(before) {
    let page;
    try {
      page = await getJson(`sessions?limit=${PAGE}${before ? `&before=${encodeURIComponent(before)}` : ""}`);
    } catch (error) {
      if (!sessions.size) fill(body, [empty("Cannot be shown", error.message)]);
      return;
    }
    if (before || !sessions.size) more = page.has_more;
    for (const session of page.data) take(session);
    if (chosen === null && page.data.length) select(page.data[0].id);
    show();
  }

  function take(session) {
    sessions.set(session.id, session);
    if (session.id === chosen) changed(session);
  }

  async function refresh(id) {
    try {
      take(await getJson(`sessions/${encodeURIComponent(id)}`));
    } catch (error) {
      if (error.status === 404) sessions.delete(id);
    }
    show();
  }

  function select(id, focus = false) {
    chosen = id;
    choose(id, sessions.get(id) ?? null, focus);
    if (!sessions.has(id)) refresh(id);
    show();
  }

  function show() {
    const sought = search.value.trim().toLowerCase();
    const wanted = newestFirst().filter((session) => FILTERS[filter.value](session) && matches(session, sought));
    for (const id of [...rows.keys()]) if (!sessions.has(id)) rows.delete(id);
    const shown = wanted.map((session) => {
      if (!rows.has(session.id)) rows.set(session.id, new Row(session.id, () => select(session.id, true)));
      return rows.get(session.id).show(session, session.id === chosen);
    });
    if (!shown.length) shown.push(sessions.size ? empty("None found", "Search and filter cover the loaded sessions.") : empty("No sessions yet", "Start one with caesura chat, or with POST /v1/sessions."));
    fill(body, more ? [...shown, moreButton] : shown);
    say(number, sessions.size ? `${wanted.length === sessions.size ? "" : `${wanted.length} of `}${sessions.size}${more ? "+" : ""}` : "");
  }

  const newestFirst = () => [...sessions.values()].sort((one, other) => other.created_at - one.created_at);
  const oldest = () => newestFirst().at(-1)?.id;

  return { update, refresh, select };
}

/** One line of the list. */
class Row {
  constructor(id, chosen) {
    this.dot = el("span", { class: "dot" });
    this.title = el("span", { class: "title" });
    this.when = el("span", { class: "when" });
    this.what = el("span", { class: "what" });
    this.element = el("button", { class: "row", type: "button", onclick: chosen, data: { session: id } }, this.dot, this.title, this.when, this.what);
  }

  show(session, current) {
    const activity = activityOf(session);
    coloured(this.dot, activity ? ACTIVITIES[activity].colour : "idle").classList.toggle("ended", activity === null);
    say(this.title, session.title || session.id);
    say(this.when, ago(serverSeconds() - session.updated_at));
    say(this.what, `${stateOf(session)}${detailOf(session)}`);
    this.element.setAttribute("aria-current", String(current));
    return this.element;
  }
}

/** What a session does or how it ended, for people. */
export function stateOf(session) {
  const activity = activityOf(session);
  return activity ? ACTIVITIES[activity].label : capital(words(session.ending));
}

function detailOf(session) {
  const [approval] = session.approvals;
  if (approval) return `: ${approval.text}`;
  if (session.error) return `: ${session.error}`;
  const running = session.pending_calls.filter((call) => call.state !== "done").map((call) => call.name);
  if (session.phase === "calling" && running.length) return `: ${running.join(", ")}`;
  return session.output_text ? `: ${session.output_text.slice(0, 160)}` : "";
}

function matches(session, sought) {
  if (!sought) return true;
  const calls = session.pending_calls.map((call) => call.name);
  const texts = [session.id, session.title ?? "", stateOf(session), session.output_text ?? "", session.error ?? "", ...calls, ...(session.tools ?? []), ...Object.values(session.metadata)];
  return texts.some((text) => text.toLowerCase().includes(sought));
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
