// Requests to the server, with the key of this tab.

import { askForKey, storedKey } from "./key.js";

const BASE = new URL("../v1/", location.href);

/** What the server answered that is no success; `status` 0 if it did not answer. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const getJson = (path, signal) => json("GET", path, undefined, signal);
export const postJson = (path, body = undefined) => json("POST", path, body);

/**
 * Follow a stream of server-sent events until it ends.
 * @param take gets each event: its `id`, `type` and `data` (parsed).
 * @param beat is called whenever anything arrives.
 */
export async function readEvents(path, { signal, lastId, take, beat, opened }) {
  const headers = { Accept: "text/event-stream" };
  if (lastId) headers["Last-Event-ID"] = lastId;
  const response = await answered("GET", path, { headers, signal, cache: "no-store" });
  opened?.();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    beat?.();
    const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parsed(block);
      if (event !== null) take(event);
    }
  }
}

async function json(method, path, body, signal) {
  const init = { signal };
  if (body !== undefined) {
    init.headers = { "Content-Type": "application/json" };
    init.body = JSON.stringify(body);
  }
  const response = await answered(method, path, init);
  return response.json();
}

async function answered(method, path, init) {
  for (;;) {
    const key = storedKey();
    const headers = { ...init.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    let response;
    try {
      response = await fetch(new URL(path, BASE), { ...init, method, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "The server does not answer.");
    }
    if (response.ok) return response;
    if (response.status !== 401) throw new ApiError(response.status, await told(response));
    await askForKey(key);
  }
}

async function told(response) {
  try {
    const body = await response.json();
    return body.error?.message ?? body.detail ?? `The server answered ${response.status}.`;
  } catch {
    return `The server answered ${response.status}.`;
  }
}

function parsed(block) {
  const event = { id: null, type: "message", data: "" };
  for (const line of block.split("\n")) {
    const [, field, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
    if (field === "id") event.id = value;
    else if (field === "event") event.type = value;
    else if (field === "data") event.data += (event.data && "\n") + value;
  }
  return event.data ? { ...event, data: JSON.parse(event.data) } : null;
}
