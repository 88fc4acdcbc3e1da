// What waits for a human, and the answers.

import { answerForm } from "./answer_form.js";
import { getJson, postJson } from "./api.js";
import { serverSeconds } from "./clock.js";
import { byId, el, empty, fill, say } from "./dom.js";
import { ago } from "./format.js";
import { repeat } from "./live.js";
import { quoted, visible } from "./quoting.js";

const SECONDS = 3;

/** Questions with the forms for their answers. What is being typed into one stays while it waits. */
export class Cards {
  /** `answered(approval)` is called when an answer was sent; `openSession(id)`, if given, from a link. */
  constructor({ answered, openSession = null }) {
    Object.assign(this, { answered, openSession });
    this.cards = new Map();
  }

  /** The elements of what waits now. */
  show(waiting) {
    const ids = new Set(waiting.map((approval) => approval.id));
    for (const id of [...this.cards.keys()]) if (!ids.has(id)) this.cards.delete(id);
    return waiting.map((approval) => {
      if (!this.cards.has(approval.id)) this.cards.set(approval.id, this.made(approval));
      const { element, age } = this.cards.get(approval.id);
      say(age, `asked ${ago(serverSeconds() - approval.created_at)} ago`);
      return element;
    });
  }

  made(approval) {
    const age = el("span");
    const open = () => this.openSession(approval.session_id);
    const runs = approval.kind === "approval";
    const who = visible(approval.tool + (approval.provider && ` (${approval.provider})`));
    const give = async (answer) => {
      await postJson(`approvals/${encodeURIComponent(approval.id)}`, answer);
      this.answered(approval);
    };
    const element = el("article", { class: "approval", "aria-label": visible(approval.text), tabIndex: -1 },
      el("div", {},
        el("div", { class: "top" }, el("span", {}, visible(approval.tool), " · ", age),
          this.openSession && el("button", { class: "link", type: "button", onclick: open }, "Show session")),
        ...(this.openSession ? askedFor(approval) : []),
        el("p", { class: "question" }, runs ? `Run ${who} with:` : `${who} asks:`)),
      el("div", {},
        runs ? quoted(approval.arguments_text, "Arguments") : quoted(approval.text, "Question"),
        el("p", { class: "question" }, runs ? `Run ${who}?` : `Answer ${who}:`),
        answerForm(approval, give)));
    return { element, age };
  }
}

/** What the session was asked for: its title, unless the user's message begins with it, and that. */
function askedFor({ session_title: title, user_message: said }) {
  const isNamed = title && !said?.startsWith(title.replace(/…$/, ""));
  return [
    isNamed && el("p", { class: "name" }, visible(title)),
    said && el("p", { class: "asked", title: visible(said) }, visible(said)),
  ];
}

/** Keep the list of approvals; what is returned looks for new ones now. */
export function startApprovals({ openSession, answered }) {
  const panel = byId("approvals");
  const body = panel.querySelector(".body");
  const number = panel.querySelector(".count");
  const none = empty("Nothing is waiting.", " Approvals and questions of your sessions appear here.");
  const all = el("button", { class: "all", type: "button", onclick: () => body.classList.add("open") });
  const cards = new Cards({
    openSession,
    answered: (approval) => {
      answered(approval);
      update();
    },
  });
  let loaded = false;
  fill(body, [el("p", { class: "empty" }, "Loading…")]);

  const update = repeat(SECONDS, async () => {
    let waiting;
    try {
      waiting = (await getJson("approvals?state=waiting&limit=1000")).data;
    } catch (error) {
      if (!loaded) fill(body, [empty("Cannot be shown. ", error.message)]);
      return;
    }
    loaded = true;
    const shown = cards.show(waiting);
    const hadFocus = body.contains(document.activeElement);
    fill(body, shown.length ? [...shown, say(all, `Show all ${shown.length}`)] : [none]);
    if (hadFocus && !body.contains(document.activeElement)) focusFirst();
    say(number, shown.length ? String(shown.length) : "");
    document.title = shown.length ? `(${shown.length}) Caesura` : "Caesura";
  });

  function focusFirst() {
    ([...body.querySelectorAll("form button")].find((button) => button.checkVisibility()) ?? byId("sessions")).focus();
  }

  return update;
}
