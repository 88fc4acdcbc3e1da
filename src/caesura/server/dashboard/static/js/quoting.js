// Text that others wrote, shown so that all of it is seen and none of it looks like the page.

import { el, escaped } from "./dom.js";

// Control and format characters, blanks that are no space, private and unassigned characters, and
// combining marks of which so many are piled up that they cover other lines.
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}|(?<=\p{M}{4})\p{M}/gu;
const SHOWN_CHARACTERS = 600;
const SHOWN_LINES = 12;

/** The text with an escape, as JSON has it, for each character that is not seen as itself. */
export const visible = (text) => text.replace(UNSEEN, (unseen) => (unseen === "\n" ? unseen : escaped(unseen)));

/** A text line by line, each behind a mark; what is too long is shown when it is asked for. */
export function quoted(text, label) {
  const shown = visible(text.replaceAll("\r\n", "\n"));
  const begin = shown.slice(0, SHOWN_CHARACTERS).split("\n").slice(0, SHOWN_LINES).join("\n");
  const area = el("div", { class: "quoted", tabIndex: 0, role: "group", "aria-label": label }, ...lines(begin));
  const hidden = shown.length - begin.length;
  if (!hidden) return area;
  const more = el("button", { class: "link", type: "button" }, `Show ${hidden.toLocaleString("en")} more characters`);
  more.onclick = () => {
    area.replaceChildren(...lines(shown));
    more.remove();
    area.focus();
  };
  return el("div", {}, area, more);
}

const lines = (text) => text.split("\n").map((line) => el("div", { class: "line" }, line));
