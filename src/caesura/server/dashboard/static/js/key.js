// The API key: asked for once the server wants one, and kept in this tab.

import { byId, say } from "./dom.js";

const NAME = "caesura.key";
let asking = null;

export const storedKey = () => sessionStorage.getItem(NAME);

/** Ask for another key than the one that was refused; all who ask meanwhile share the dialog. */
export function askForKey(refused) {
  if (storedKey() !== refused) return Promise.resolve(); // another request has asked meanwhile
  asking ??= ask(refused).finally(() => { asking = null; });
  return asking;
}

function ask(refused) {
  const dialog = byId("key");
  const input = byId("key-input");
  if (refused) say(byId("key-text"), "The server refused this key. Try another one.");
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const keep = () => dialog.showModal(); // without a key there is nothing to show
    const done = (event) => {
      event.preventDefault();
      dialog.removeEventListener("close", keep);
      dialog.close();
      sessionStorage.setItem(NAME, input.value.trim());
      resolve();
    };
    dialog.addEventListener("close", keep);
    dialog.querySelector("form").addEventListener("submit", done, { once: true });
  });
}
