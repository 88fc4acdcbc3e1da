// What a session does, in one word, and its colour.

export const ACTIVITIES = {
  generating: { label: "Generating", colour: "generating" },
  calling: { label: "Calling tools", colour: "calling" },
  waiting_for_human: { label: "Waiting for a human", colour: "human" },
  idle: { label: "Idle", colour: "idle" },
  held: { label: "Paused by its user", colour: "paused" },
};

/** The activity of a session of the API; null if it has ended. */
export function activityOf(session) {
  if (session.phase === "ended") return null;
  if (session.held) return "held";
  if (session.approvals.length) return "waiting_for_human";
  return session.phase;
}

