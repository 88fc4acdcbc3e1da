// The server's clock, which this machine's may not agree with.

let offsetSeconds = 0;

/** Take over the time that the server has just said. */
export function setServerTime(seconds) {
  offsetSeconds = seconds - Date.now() / 1000;
}

export const serverSeconds = () => Date.now() / 1000 + offsetSeconds;
