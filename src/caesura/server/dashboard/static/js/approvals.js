// What waits for a human, and the answers.

import { answerForm } from "./answer_form.js";
import { getJson, postJson } from "./api.js";
import { serverSeconds } from "./clock.js";
import { byId, el, empty, fill, say } from "./dom.js";
import { ago } from "./format.js";
import { repeat } from "./live.js";

const SECONDS = 3;

/** Keep the list of approvals; what is returned looks for new ones now. */
export function startApprovals({ openSession, answered }) {
  const panel = byId("approvals");
  const body = panel.querySelector(".body");
  const number = panel.querySelector(".count");
  const cards = new Map();
  const none = empty("Nothing waits", "Approvals and questions of your sessions appear here.");
  const all = el("button", { class: "all", type: "button", onclick: () => body.classList.add("open") });
  fill(body, [el("p", { class: "empty" }, "Loading…")]);

  const update = repeat(SECONDS, async () => {
    let waiting;
    try {
      waiting = (await getJson("approvals?state=waiting&limit=1000")).data;
    } catch (error) {
      if (!cards.size) fill(body, [empty("Cannot be shown", error.message)]);
      return;
    }
    const ids = new Set(waiting.map((approval) => approval.id));
    for (const id of [...cards.keys()]) if (!ids.has(id)) cards.delete(id);
    for (const approval of waiting) {
      if (!cards.has(approval.id)) cards.set(approval.id, card(approval));
      cards.get(approval.id).age();
    }
    const hadFocus = body.contains(document.activeElement);
    fill(body, cards.size ? [...[...cards.values()].map(({ element }) => element), say(all, `Show all ${cards.size}`)] : [none]);
    if (hadFocus && !body.contains(document.activeElement)) focusFirst();
    say(number, cards.size ? String(cards.size) : "");
    document.title = cards.size ? `(${cards.size}) Caesura` : "Caesura";
  });

  function card(approval) {
    const age = el("span");
    const open = el("button", { class: "link", type: "button", onclick: () => openSession(approval.session_id) }, "Show session");
    const given = Object.keys(approval.arguments).length > 0 && approval.kind === "approval";
    const give = async (answer) => {
      await postJson(`approvals/${encodeURIComponent(approval.id)}`, answer);
      answered(approval);
      update();
    };
    const element = el("article", { class: "approval", "aria-label": approval.text, tabIndex: -1 },
      el("div", { class: "top" }, el("span", {}, approval.tool, " · ", age), open),
      el("p", { class: "question" }, approval.text),
      given && el("pre", { tabIndex: 0, "aria-label": "Arguments" }, JSON.stringify(approval.arguments, null, 2)),
      answerForm(approval, give));
    return { element, age: () => say(age, `asked ${ago(serverSeconds() - approval.created_at)} ago`) };
  }

  function focusFirst() {
    ([...body.querySelectorAll("form button")].find((button) => button.checkVisibility()) ?? byId("sessions")).focus();
  }

  return update;
}
