// Elements. Text goes in as text only: what tools and models write is never markup.

// What cannot be seen, or changes the direction of reading; emoji need the joiners.
const HIDDEN = /(?![\n\t\u200c\u200d])[\p{C}\p{Zl}\p{Zp}]/gu;
const SVG = "http://www.w3.org/2000/svg";

/** An element with properties, `class`, `data`, ARIA attributes and event handlers (`onclick`). */
export function el(name, properties = {}, ...children) {
  return filled(document.createElement(name), properties, children);
}

/** The same for SVG, where all properties are attributes. */
export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

/** An element's colour, as the custom property that the style sheets use. */
export function coloured(element, colour) {
  element.style.setProperty("--colour", `var(--${colour})`);
  return element;
}

/** What is shown where there is nothing, with what to do about it. */
export function empty(title, advice = "") {
  return el("div", { class: "empty" }, el("strong", {}, title), advice);
}

/** Replace children, and leave those alone that are the same. */
export function fill(parent, children) {
  const wanted = children.filter(Boolean);
  for (const child of [...parent.children]) if (!wanted.includes(child)) child.remove();
  wanted.forEach((child, position) => {
    if (parent.children[position] !== child) parent.insertBefore(child, parent.children[position] ?? null);
  });
}

/** A text in which nothing is hidden; what is decided on is shown by `visible` of `quoting.js`. */
export const plain = (text) => text.replace(HIDDEN, escaped);

/** A character as JSON escapes it. */
export function escaped(character) {
  return Array.from({ length: character.length }, (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`).join("");
}

/** Set text only where it changes, so that a selection in it survives. */
export function say(element, text) {
  const shown = plain(text);
  if (element.textContent !== shown) element.textContent = shown;
  return element;
}

/** The text of a tooltip, and of what is read aloud. */
export function hint(element, text, name = "title") {
  element.setAttribute(name, plain(text));
  return element;
}

function filled(element, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key === "class") element.className = value;
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key === "title" || key.startsWith("aria-")) hint(element, String(value), key);
    else if (key === "role" || key === "for") element.setAttribute(key, value);
    else element[key] = value;
  }
  const given = children.filter((child) => child !== null && child !== undefined && child !== false);
  element.append(...given.map((child) => (typeof child === "string" ? plain(child) : child)));
  return element;
}
