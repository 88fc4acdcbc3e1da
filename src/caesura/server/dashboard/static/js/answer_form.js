// The part of an approval where its answer is given: consent, a text, a choice, or data.

import { el, say } from "./dom.js";
import { visible } from "./quoting.js";

/** What a human may say to an approval; `give(answer)` sends it and rejects if it cannot be sent. */
export function answerForm(approval, give) {
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const input = inputOf(approval);
  const accept = el("button", { class: "primary", type: "submit" }, input ? "Answer" : approval.kind === "approval" ? "Approve" : "Accept");
  const refuse = el("button", { type: "button" }, "Refuse…");
  const reason = el("input", { type: "text", autocomplete: "off", placeholder: "The model reads it" });
  const really = el("button", { class: "danger", type: "button" }, "Refuse");
  const back = el("button", { type: "button" }, "Back");
  const refusal = el("div", { class: "refusal", hidden: true },
    el("label", { class: "above" }, "Reason (optional)", reason), el("p", { class: "actions" }, really, back));
  const choice = el("p", { class: "actions" }, accept, refuse);
  const form = el("form", {}, ...(input ? [input.element] : []), choice, refusal, problem);

  const send = async (answer) => {
    const buttons = [...form.querySelectorAll("button")];
    buttons.forEach((button) => { button.disabled = true; });
    problem.hidden = true;
    try {
      await give(answer);
    } catch (error) {
      say(problem, error.message).hidden = false;
      buttons.forEach((button) => { button.disabled = false; });
    }
  };
  const refusing = (yes) => {
    choice.hidden = yes;
    refusal.hidden = !yes;
    (yes ? reason : refuse).focus();
  };
  const refuseNow = () => send({ accepted: false, ...(reason.value.trim() ? { reason: reason.value.trim() } : {}) });
  refuse.onclick = () => refusing(true);
  back.onclick = () => refusing(false);
  really.onclick = refuseNow;
  reason.onkeydown = (event) => {
    if (event.key === "Escape") refusing(false);
    if (event.key === "Enter") {
      event.preventDefault();
      refuseNow();
    }
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    try {
      send({ accepted: true, ...(input?.answer() ?? {}) });
    } catch (error) {
      say(problem, error.message).hidden = false;
    }
  };
  return form;
}

function inputOf(approval) {
  if (approval.kind === "question") return approval.choices.length ? choices(approval) : text();
  if (approval.kind === "input" && approval.schema) return fieldsOf(approval.schema) ?? json();
  return null;
}

function choices(approval) {
  const name = `choice-${approval.id}`;
  const radios = approval.choices.map((value) => el("input", { type: "radio", name, value, required: true }));
  const labels = radios.map((radio) => el("label", { class: "choice" }, radio, visible(radio.value)));
  const element = el("fieldset", {}, el("legend", { class: "hidden" }, "Choose an answer"), ...labels);
  return { element, answer: () => ({ text: radios.find((radio) => radio.checked).value }) };
}

function text() {
  const area = el("textarea", { rows: 2, required: true });
  return { element: el("label", { class: "above" }, "Answer", area), answer: () => ({ text: area.value }) };
}

function json() {
  const area = el("textarea", { rows: 4, required: true, spellcheck: false, value: "{}" });
  const answer = () => {
    try {
      return { content: JSON.parse(area.value) };
    } catch {
      throw new Error("This is not JSON yet.");
    }
  };
  return { element: el("label", { class: "above" }, "Data, as JSON", area), answer };
}

/** A form for a flat object of simple values; null if the schema is anything else. */
function fieldsOf(schema) {
  const properties = Object.entries(schema.properties ?? {});
  const simple = ([, property]) => property.enum || ["string", "number", "integer", "boolean"].includes(property.type);
  if (schema.type !== "object" || !properties.length || !properties.every(simple)) return null;
  const fields = properties.map(([name, property]) => field(name, property, schema.required?.includes(name)));
  const answer = () => {
    const given = fields.map(({ name, value }) => [name, value()]).filter(([, value]) => value !== undefined);
    return { content: Object.fromEntries(given) };
  };
  return { element: el("fieldset", {}, ...fields.map(({ element }) => element)), answer };
}

function field(name, property, required) {
  const label = visible(`${property.title ?? name}${required ? "" : " (optional)"}`);
  const title = property.description && visible(String(property.description));
  const preset = typeof property.default === "string" && visible(property.default) !== property.default ? "" : property.default ?? "";
  if (property.type === "boolean") {
    const box = el("input", { type: "checkbox", checked: property.default ?? false, title });
    return { name, element: el("label", { class: "choice" }, box, label), value: () => box.checked };
  }
  if (property.enum) {
    const options = property.enum.map((value, index) => el("option", { value: index }, visible(String(property.enumNames?.[index] ?? value))));
    const select = el("select", { required, title }, ...(required ? [] : [el("option", { value: "" }, "–")]), ...options);
    const value = () => (select.value === "" ? undefined : property.enum[Number(select.value)]);
    return { name, element: el("label", { class: "above select" }, label, select), value };
  }
  const numeric = property.type !== "string";
  const input = el("input", {
    type: numeric ? "number" : { email: "email", date: "date", uri: "url" }[property.format] ?? "text",
    required, title, value: preset,
  });
  if (numeric) {
    input.step = property.type === "integer" ? "1" : "any";
    if (property.minimum !== undefined) input.min = property.minimum;
    if (property.maximum !== undefined) input.max = property.maximum;
  }
  const value = () => (input.value === "" ? undefined : numeric ? Number(input.value) : input.value);
  return { name, element: el("label", { class: "above" }, label, input), value };
}
