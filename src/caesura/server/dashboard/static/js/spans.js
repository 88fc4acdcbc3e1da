// What happened when in a session, from its events: stretches of time in lanes.

/**
 * Stretches of a session. A span has `lane`, `kind`, `from`, `to` (null while it lasts) and `label`.
 */
export class Spans {
  constructor() {
    this.all = [];
    this.open = new Map();
    this.calls = new Map();
    this.from = null;
    this.to = null;
  }

  /** Take the next event. */
  take(type, data) {
    const at = data.created_at;
    this.from ??= at;
    switch (type) {
      case "session.phase":
        this.phase(data, at);
        break;
      case "output.done":
        this.end("model", at, `${data.output_tokens} tokens`);
        // Behind a call or an interrupt it goes on, unless its phase says otherwise at once.
        if (data.continues) this.generating(data.turn + 1, at);
        break;
      case "call.issued":
        this.calls.set(data.call_id, data.name);
        this.begin(data.call_id, { lane: data.name, kind: "calling", from: at, label: data.name, callId: data.call_id });
        break;
      case "approval.requested":
        this.begin(data.approval_id, { lane: data.tool, kind: "waits", from: at, label: data.text, callId: data.call_id });
        break;
      case "approval.answered":
        this.end(data.approval_id, at, data.accepted ? "accepted" : "refused");
        break;
      case "call.done":
        this.end(data.call_id, at, data.ending.replaceAll("_", " "), data.ending !== "succeeded");
        break;
      case "session.ended":
        for (const key of [...this.open.keys()]) this.end(key, at);
        this.to = at;
        break;
    }
  }

  /** Lanes by name, the model's first; what overlaps gets a lane of its own. */
  lanes() {
    const lanes = [{ name: "model", spans: [] }];
    for (const span of this.all) {
      const free = lanes.find((lane) => lane.name === span.lane && (span.kind === "waits" || clear(lane, span)));
      if (free) free.spans.push(span);
      else lanes.push({ name: span.lane, spans: [span] });
    }
    return lanes;
  }

  phase(data, at) {
    if (data.held) {
      this.end("model", at);
      this.begin("held", { lane: "model", kind: "paused", from: at, label: "Paused by its user" });
      return;
    }
    this.end("held", at);
    if (data.phase === "generating") this.generating(data.turn, at);
    else this.end("model", at);
    if (data.phase === "generating" && this.open.has("model")) this.open.get("model").label = `Turn ${data.turn}`;
  }

  generating(turn, at) {
    this.begin("model", { lane: "model", kind: "generating", from: at, label: `Turn ${turn}` });
  }

  begin(key, span) {
    if (this.open.has(key)) return;
    const begun = { ...span, key: `${key} ${span.from}`, to: null, failed: false };
    this.open.set(key, begun);
    this.all.push(begun);
  }

  end(key, at, outcome = null, failed = false) {
    const span = this.open.get(key);
    if (!span) return;
    Object.assign(span, { to: at, outcome, failed });
    this.open.delete(key);
  }
}

function clear(lane, span) {
  return lane.spans.every((other) => other.kind === "waits" || (other.to !== null && other.to <= span.from));
}
