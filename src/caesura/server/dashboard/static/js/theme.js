// Light, dark, or as the system says.

const NAME = "caesura.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = [];

/** Apply the theme and let the select element change it. */
export function startTheme(select) {
  select.value = localStorage.getItem(NAME) ?? "auto";
  select.addEventListener("change", () => {
    localStorage.setItem(NAME, select.value);
    apply(select.value);
  });
  system.addEventListener("change", () => apply(select.value));
  apply(select.value);
}

/** Be told when colours have changed. */
export const onTheme = (listener) => listeners.push(listener);

/** A colour of the style sheets, as it is now. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function apply(choice) {
  const dark = choice === "dark" || (choice === "auto" && system.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  for (const listener of listeners) listener();
}
