// Tags of one example: kept by data set and row, so that every job over the same rows has them.
import { ask, el, say } from "./dom.js";

export const EXCLUDED = "excluded", MARKED = "marked";
const ABOUT = {
  [EXCLUDED]: ["Exclude", "Excluded", "The reference is wrong: no choice returns this example (x)"],
  [MARKED]: ["Mark", "Marked", "To be looked at again (m)"],
};

// `example` gets its new tags once the service has them.
export async function setTag(dataset, example, tag, on) {
  const path = `/v1/datasets/${encodeURIComponent(dataset)}/tags/${encodeURIComponent(tag)}/rows`;
  await (on ? ask(path, "json", { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ rows: [example.row] }) }) : ask(`${path}?row=${example.row}`, "json", { method: "DELETE" }));
  example.tags = example.tags.filter((one) => one !== tag).concat(on ? [tag] : []).sort();
  say(`example ${example.id}: ${on ? "" : "no longer "}${tag}`);
}

// Buttons that switch `marked` and `excluded`; `toggle` is told which.
export function switches(example, toggle, attributes = {}) {
  return [MARKED, EXCLUDED].map((tag) => {
    const on = example.tags.includes(tag), [off, pressed, title] = ABOUT[tag];
    const button = el("button", { type: "button", class: `switch ${tag}`, "aria-pressed": on, title, ...attributes }, on ? pressed : off);
    button.addEventListener("click", (event) => { event.stopPropagation(); toggle(tag); });
    return button;
  });
}

export const chips = (tags) => tags.filter((tag) => tag !== EXCLUDED && tag !== MARKED).map((tag) => el("span", { class: "chip" }, tag));

// All there is to do with the tags of an example that is read.
export function tagBar(dataset, example, signal) {
  const bar = el("div", { class: "tagbar" }), problem = el("p", { class: "warn", role: "alert" });
  const change = async (tag, on) => {
    problem.textContent = "";
    try { await setTag(dataset, example, tag, on); } catch (error) { problem.textContent = error.message; }
    fill();
  };
  const toggle = (tag) => change(tag, !example.tags.includes(tag));
  function fill() {
    const own = example.tags.filter((tag) => tag !== EXCLUDED && tag !== MARKED).map((tag) => {
      const off = el("button", { type: "button", class: "chip", "aria-label": `Take the tag ${tag} off` }, `${tag} ×`);
      off.addEventListener("click", () => change(tag, false));
      return off;
    });
    const field = el("input", { id: "new-tag", size: "14", maxlength: "50", placeholder: "another tag", "aria-label": "Another tag, in lower case", autocomplete: "off" });
    const form = el("form", { class: "inline" }, field, el("button", {}, "Tag"));
    form.addEventListener("submit", (event) => { event.preventDefault(); if (field.value.trim()) change(field.value.trim(), true); });
    bar.replaceChildren(...switches(example, toggle), ...own, form, problem);
  }
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "x") toggle(EXCLUDED);
    if (event.key === "m") toggle(MARKED);
  }, { signal });
  fill();
  return bar;
}
