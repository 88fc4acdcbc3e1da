// The row of figures at the top.

import { el, say } from "./dom.js";
import { count, percent } from "./format.js";

const share = (part, all) => (all ? part / all : null);

const FIGURES = [
  { label: "Open sessions", value: ({ sessions }) => count(sessions.open) },
  { label: "Generating", value: ({ sessions }) => count(sessions.by_activity.generating) },
  { label: "Calling tools", value: ({ sessions }) => count(sessions.by_activity.calling) },
  {
    label: "Waiting for a human",
    value: ({ sessions }) => count(sessions.by_activity.waiting_for_human),
    more: ({ approvals_waiting: waiting }) => `${count(waiting)} ${waiting === 1 ? "question" : "questions"}`,
    attention: ({ approvals_waiting: waiting }) => waiting > 0,
  },
  {
    label: "Paused contexts",
    value: ({ engine }) => count(engine?.pauses),
    more: ({ engine }) => engine && `${count(engine.holding)} held, ${count(engine.copied)} copied, ${count(engine.dropped)} dropped`,
  },
  {
    label: "Device memory",
    value: ({ engine }) => percent(engine && share(engine.active_tokens + engine.held_tokens, engine.device_tokens)),
    more: ({ engine }) => engine && `${percent(share(engine.held_tokens, engine.device_tokens))} held for pauses`,
  },
  {
    label: "Host memory",
    value: ({ engine }) => percent(engine && share(engine.host_used_tokens, engine.host_tokens)),
    more: ({ engine }) => engine && (engine.host_tokens ? `of ${count(engine.host_tokens)} tokens` : "none configured"),
  },
];

/** Make the figures in a `dl`; what is returned shows an overview in them. */
export function makeFigures(list) {
  const made = FIGURES.map((figure) => {
    const value = el("span", {}, "–");
    const more = el("span", { class: "more" });
    const box = el("div", {}, el("dt", {}, figure.label), el("dd", {}, value, more));
    list.append(box);
    return { ...figure, box, valueText: value, moreText: more };
  });
  return (overview) => {
    for (const { box, valueText, moreText, value, more, attention } of made) {
      say(valueText, value(overview));
      say(moreText, more?.(overview) || "");
      box.classList.toggle("attention", attention?.(overview) ?? false);
    }
  };
}
