// What was said and done in a session, in order, as it happens.

import { el, plain, say } from "./dom.js";
import { duration, pretty, words } from "./format.js";

/** The log of one session. */
export class Log {
  constructor() {
    this.element = el("div", { class: "log", role: "log", "aria-live": "off", "aria-label": "What happened", tabIndex: 0 });
    this.calls = new Map();
    this.asked = new Map();
    this.live = null;
    this.isAtEnd = true; // and stays there, whatever is added and however high it is
    this.element.onscroll = () => {
      const { scrollHeight, scrollTop, clientHeight } = this.element;
      this.isAtEnd = scrollHeight - scrollTop - clientHeight < 40;
    };
    new ResizeObserver(() => this.stayAtEnd()).observe(this.element);
  }

  stayAtEnd() {
    if (this.isAtEnd) this.element.scrollTop = this.element.scrollHeight;
  }

  /** Take the next event. */
  take(type, data) {
    switch (type) {
      case "session.created":
        for (const message of data.messages) this.given(message);
        break;
      case "output.text.delta":
        this.piece("text", data.text);
        break;
      case "output.reasoning.delta":
        this.piece("reasoning", data.text);
        break;
      case "output.restarted":
        this.drop();
        break;
      case "output.done":
        this.output(data);
        break;
      case "call.issued":
        this.call(data);
        break;
      case "interrupt.injected":
        for (const told of data.interrupts.filter((one) => one.error)) {
          this.entry("note", "Told", el("div", { class: "text quiet" }, told.error));
        }
        break;
      case "approval.requested":
        this.waits(data, " waiting for a human");
        break;
      case "call.progress":
        this.progress(data);
        break;
      case "call.done":
        this.result(data);
        break;
      case "message.added":
        this.entry("user", "User", el("div", { class: "text" }, String(data.content)));
        break;
      case "approval.answered":
        this.waits(data, " running");
        this.entry("note", "Human", el("div", { class: "text" }, `${data.accepted ? "Accepted" : "Refused"}${data.reason ? `: ${data.reason}` : ""}`));
        break;
      case "session.ended":
        this.drop();
        this.entry("note", "End", el("div", { class: "text quiet" }, `${words(data.ending)}${data.error ? `: ${data.error}` : ""}`));
        break;
    }
    this.stayAtEnd();
  }

  /** Show a call, unfolded. */
  reveal(callId) {
    const call = this.calls.get(callId);
    if (!call) return;
    for (const other of this.calls.values()) other.details.classList.toggle("chosen", other === call);
    call.details.open = true;
    this.element.scrollTop += call.details.getBoundingClientRect().top - this.element.getBoundingClientRect().top - 8;
  }

  entry(name, who, ...content) {
    const entry = el("div", { class: `entry ${name}` }, el("span", { class: "who" }, who), el("div", {}, ...content));
    this.element.append(entry);
    return entry;
  }

  /** A message that the session was made with. */
  given({ role, content, tool_calls: calls }) {
    const text = textOf(content);
    if (role === "user") this.entry("user", "User", el("div", { class: "text" }, text));
    else if (role !== "assistant") this.entry("note", role === "tool" ? "Result" : "System", folded(text));
    else {
      if (text) this.entry("model", "Model", el("div", { class: "text" }, text));
      for (const call of calls ?? []) this.entry("call", "Call", folded(pretty(call.function.arguments), call.function.name));
    }
  }

  piece(kind, text) {
    if (!this.live) {
      const reasoning = el("div", { class: "reasoning" });
      const said = el("div", { class: "text cursor" });
      this.live = { reasoning, text: said, entry: this.entry("model", "Model", reasoning, said) };
    }
    this.live[kind].append(plain(text));
  }

  drop() {
    this.live?.entry.remove();
    this.live = null;
  }

  output(data) {
    this.drop();
    if (!data.text.trim() && !data.reasoning) return;
    this.entry("model", "Model", data.reasoning && el("div", { class: "reasoning" }, data.reasoning), el("div", { class: "text" }, data.text.trim()));
  }

  call(data) {
    const state = el("span", { class: "quiet" }, " running");
    const details = el("details", {}, el("summary", {}, el("code", {}, data.name), state),
      el("pre", { tabIndex: 0, "aria-label": "Arguments" }, pretty(data.arguments)));
    this.calls.set(data.call_id, { details, state });
    this.entry("call", "Call", details);
  }

  waits(data, state) {
    if (data.call_id) this.asked.set(data.approval_id, data.call_id);
    const call = this.calls.get(this.asked.get(data.approval_id));
    if (call) say(call.state, state);
  }

  progress(data) {
    const call = this.calls.get(data.call_id);
    if (!call) return;
    const share = data.fraction === null ? "" : ` ${Math.round(data.fraction * 100)} %`;
    const left = data.remaining_seconds === null ? "" : `, ${duration(data.remaining_seconds)} left`;
    say(call.state, ` running${share}${left}${data.message ? `: ${data.message}` : ""}`);
  }

  result(data) {
    const call = this.calls.get(data.call_id);
    if (!call) return;
    const facts = [words(data.ending), duration(data.seconds), data.cached && "cached", data.attempts > 1 && `${data.attempts} attempts`];
    say(call.state, ` ${facts.filter(Boolean).join(", ")}`);
    call.state.className = data.ending === "succeeded" ? "quiet" : "problem";
    call.details.append(el("pre", { tabIndex: 0, "aria-label": "Result" }, pretty(data.content)));
  }
}

/** The text of a message, whose content may have parts. */
export function textOf(content) {
  return Array.isArray(content) ? content.map((part) => part.text ?? "").join("\n") : content ?? "";
}

function folded(text, name = text.trim().split("\n", 1)[0]) {
  return el("details", {}, el("summary", { class: "quiet line" }, name), el("pre", { tabIndex: 0 }, text));
}
