// Streams that come back after they were lost.

import { ApiError, readEvents } from "./api.js";

const SILENCE_SECONDS = 45; // the server says something at least every 15 s
const LONGEST_WAIT_SECONDS = 15;

/**
 * Follow a stream for as long as `signal` says, from where it was lost.
 * @param take gets each event; true from it ends everything.
 * @param state is told "live", or "lost" with the seconds until the next attempt.
 */
export async function follow(path, { signal, take, state = () => {} }) {
  let lastId = null;
  let failures = 0;
  let over = false;
  while (!signal.aborted && !over) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal.addEventListener("abort", stop);
    let silence = setTimeout(stop, SILENCE_SECONDS * 1000);
    try {
      await readEvents(path, {
        signal: attempt.signal,
        lastId,
        opened: () => { failures = 0; state("live"); },
        beat: () => {
          clearTimeout(silence);
          silence = setTimeout(stop, SILENCE_SECONDS * 1000);
        },
        take: (event) => {
          lastId = event.id ?? lastId;
          over = take(event) === true || over;
        },
      });
    } catch (error) {
      if (!(error instanceof ApiError) && error.name !== "AbortError" && error.name !== "TypeError") throw error;
      if (error.status === 404) return;
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", stop);
    }
    if (signal.aborted || over) return;
    failures += 1;
    const seconds = Math.min(LONGEST_WAIT_SECONDS, 2 ** (failures - 1));
    state("lost", seconds);
    await waited(seconds, signal);
  }
}

/** Run something again and again while the page is seen; `again()` of what is returned runs it now. */
export function repeat(seconds, run) {
  let timer = null;
  let running = false;
  let wanted = false;
  const again = async () => {
    clearTimeout(timer);
    if (running) {
      wanted = true;
      return;
    }
    running = true;
    try {
      await run();
    } finally {
      running = false;
      if (!document.hidden) timer = setTimeout(again, wanted ? 0 : seconds * 1000);
      wanted = false;
    }
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : again()));
  again();
  return again;
}

function waited(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
