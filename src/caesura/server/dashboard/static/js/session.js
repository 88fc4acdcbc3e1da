// One session: what it does, its timeline and log, and the ways to steer it.

import { ACTIVITIES, activityOf } from "./activity.js";
import { postJson } from "./api.js";
import { Cards } from "./approvals.js";
import { serverSeconds } from "./clock.js";
import { byId, coloured, el, empty, fill, hint, plain, say } from "./dom.js";
import { ago, duration } from "./format.js";
import { follow } from "./live.js";
import { Log, textOf } from "./log.js";
import { stateOf } from "./sessions.js";
import { Spans } from "./spans.js";
import { Timeline } from "./timeline.js";

const DRAW_SECONDS = 0.5;
const QUIET = new Set(["output.text.delta", "output.reasoning.delta", "call.progress"]);

/** Show sessions in the detail area; `stale(id)` is called when what is known of one is out of date,
 * `answered()` when one of its questions was answered. */
export function startDetail({ stale, answered }) {
  const area = byId("detail");
  let shown = null;
  fill(area, [empty("No session chosen", "Choose one to see its timeline and to steer it.")]);

  setInterval(() => document.hidden || shown?.draw(), DRAW_SECONDS * 1000);

  return {
    open(id, session, focus) {
      if (shown?.id !== id) {
        shown?.close();
        shown = new Detail(id, () => stale(id), answered);
        fill(area, [...shown.parts]);
        if (session) shown.show(session);
      }
      if (focus) {
        area.scrollIntoView({ block: "nearest" });
        area.focus({ preventScroll: true });
      }
    },
    changed: (session) => { if (shown?.id === session.id) shown.show(session); },
  };
}

/** The detail of one session. */
class Detail {
  constructor(id, stale, answered) {
    Object.assign(this, { id, stale });
    this.request = "";
    this.path = `sessions/${encodeURIComponent(id)}`;
    this.spans = new Spans();
    this.log = new Log();
    this.timeline = new Timeline(this.spans, (span) => this.log.reveal(span.callId));
    this.controller = new AbortController();
    this.cards = new Cards({ answered: () => this.wasAnswered(answered) });
    this.title = el("h3", { class: "title" });
    this.asked = el("p", { class: "asked", hidden: true });
    this.questions = el("div", { class: "questions", hidden: true });
    this.dot = el("span", { class: "dot" });
    this.state = el("span");
    this.more = el("span");
    this.connection = el("span", { class: "problem" });
    this.problem = el("p", { class: "problem", role: "alert", hidden: true });
    this.hold = el("button", { type: "button", onclick: () => this.act(this.session.held ? "resume" : "pause") }, "Pause");
    this.cancel = el("button", { class: "danger", type: "button", onclick: () => this.confirm(true) }, "Cancel");
    this.sure = el("button", { class: "danger", type: "button", hidden: true, onclick: () => this.act("cancel") }, "Yes, cancel it");
    this.unsure = el("button", { type: "button", hidden: true, onclick: () => this.confirm(false) }, "No");
    this.text = el("textarea", { rows: 1, required: true });
    this.hint = el("span");
    this.send = el("button", { class: "primary", type: "submit" }, "Send");
    this.steer = el("form", { class: "steer", onsubmit: (event) => this.message(event) },
      el("label", {}, this.hint, this.text), this.send);
    this.text.onkeydown = (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.message(event);
    };
    const head = el("div", { class: "head" },
      el("div", {}, this.title, el("p", { class: "facts" }, el("span", { class: "pill" }, this.dot, this.state), this.more, el("code", {}, id), this.connection)),
      el("p", { class: "actions" }, this.hold, this.cancel, this.sure, this.unsure));
    this.parts = [head, this.asked, this.problem, this.questions, this.timeline.element, this.log.element, this.steer];
    this.followEvents();
  }

  /** Take over what the API says of the session. */
  show(session) {
    this.session = session;
    const activity = activityOf(session);
    const over = activity === null;
    coloured(this.dot, over ? "idle" : ACTIVITIES[activity].colour).classList.toggle("ended", over);
    say(this.title, session.title || "Untitled session");
    this.showAsked();
    fill(this.questions, this.cards.show(session.approvals));
    this.questions.hidden = !session.approvals.length;
    say(this.state, stateOf(session));
    const last = over ? `ran for ${duration(session.updated_at - session.created_at)}` : `began ${ago(serverSeconds() - session.created_at)} ago`;
    say(this.more, `${session.turns} ${session.turns === 1 ? "turn" : "turns"}, ${last}`);
    say(this.hold, session.held ? "Resume" : "Pause");
    say(this.hint, session.phase === "idle" ? "Message" : "Message (interrupts the model)");
    for (const part of [this.hold, this.cancel, this.steer]) part.hidden = over;
    if (over) this.confirm(false);
    this.cancel.hidden = over || !this.sure.hidden;
  }

  /** What its user asked for last, unless the title says it. */
  showAsked() {
    hint(say(this.asked, this.request), this.request);
    this.asked.hidden = !this.request || plain(this.request) === this.title.textContent;
  }

  wasAnswered(answered) {
    byId("detail").focus({ preventScroll: true });
    answered();
    this.stale();
  }

  draw() {
    this.timeline.show();
  }

  close() {
    this.controller.abort();
  }

  followEvents() {
    follow(`${this.path}/events`, {
      signal: this.controller.signal,
      state: (state) => say(this.connection, state === "lost" ? "reconnecting" : ""),
      take: ({ type, data }) => {
        this.spans.take(type, data);
        this.log.take(type, data);
        if (type === "session.created") this.request = lastOfUser(data.messages) ?? this.request;
        if (type === "message.added") this.request = String(data.content);
        this.showAsked();
        if (!QUIET.has(type)) this.changed();
        return type === "session.ended";
      },
    });
    this.draw();
  }

  /** Events come in bursts, above all the past ones: ask once for each burst. */
  changed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { this.draw(); this.stale(); }, 100);
  }

  confirm(asked) {
    this.sure.hidden = this.unsure.hidden = !asked;
    this.cancel.hidden = asked;
    if (asked) this.unsure.focus();
    else if (document.activeElement === document.body) this.cancel.focus();
  }

  act(verb) {
    this.confirm(false);
    return this.attempt(() => postJson(`${this.path}/${verb}`));
  }

  message(event) {
    event.preventDefault();
    const content = this.text.value.trim();
    if (!content) return;
    this.attempt(async () => {
      await postJson(`${this.path}/messages`, { content });
      this.text.value = "";
    });
  }

  async attempt(run) {
    this.problem.hidden = true;
    try {
      await run();
    } catch (error) {
      say(this.problem, error.message);
      this.problem.hidden = false;
    }
    this.stale();
  }
}

function lastOfUser(messages) {
  const said = messages.filter((message) => message.role === "user");
  return said.length ? textOf(said.at(-1).content).trim() : null;
}
