// Elements. Text goes in as text only: what tools and models write is never markup.

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

/** Set text only where it changes, so that a selection in it survives. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
  return element;
}

function filled(element, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key === "class") element.className = value;
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key.startsWith("aria-") || key === "role" || key === "for") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
