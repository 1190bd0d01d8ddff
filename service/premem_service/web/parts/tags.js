// Tags of one example: kept by data set and row, so that every job over the same rows has them.
import { putTag } from "../api.js";
import { el, isCommand, say } from "../dom.js";
import { attempt, problemLine } from "./problem.js";

/** @typedef {{ id: string, row: number, tags: string[] }} Tagged */

export const EXCLUDED = "excluded";
export const MARKED = "marked";

const SWITCHES = [
  { tag: MARKED, off: "Mark", on: "Marked", title: "Look at this example again (m)" },
  {
    tag: EXCLUDED,
    off: "Exclude",
    on: "Excluded",
    title: "The reference is wrong: no policy chooses this example (x)",
  },
];

/**
 * The tag that a key switches, if any.
 *
 * @param {string} key
 */
export const tagOfKey = (key) => (key === "x" ? EXCLUDED : key === "m" ? MARKED : undefined);

/**
 * `example` gets its new tags once the service has them.
 *
 * @param {string} dataset
 * @param {Tagged} example
 * @param {string} tag
 * @param {boolean} on
 */
export async function setTag(dataset, example, tag, on) {
  await putTag(dataset, tag, example.row, on);
  const others = example.tags.filter((one) => one !== tag);
  example.tags = (on ? [...others, tag] : others).sort();
  say(`example ${example.id}: ${on ? "" : "no longer "}${tag}`);
}

/**
 * Buttons that switch `marked` and `excluded`.
 *
 * @param {Tagged} example
 * @param {(tag: string) => void} toggle
 * @param {Record<string, string>} [attributes]
 */
export function switches(example, toggle, attributes = {}) {
  return SWITCHES.map(({ tag, off, on, title }) => {
    const pressed = example.tags.includes(tag);
    const look = { type: "button", class: `switch ${tag}`, "aria-pressed": pressed, title, ...attributes };
    const button = el("button", look, pressed ? on : off);
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      toggle(tag);
    });
    return button;
  });
}

/** @param {string[]} tags */
const others = (tags) => tags.filter((tag) => tag !== EXCLUDED && tag !== MARKED);

/** @param {string[]} tags */
export const chips = (tags) => others(tags).map((tag) => el("span", { class: "chip" }, tag));

/**
 * All there is to do with the tags of the example that is read.
 *
 * @param {string} dataset
 * @param {Tagged} example
 * @param {AbortSignal} signal
 */
export function tagBar(dataset, example, signal) {
  const bar = el("div", { class: "tagbar" });
  const problem = problemLine();
  /** @type {(tag: string, on: boolean) => Promise<void>} */
  const change = async (tag, on) => {
    await attempt(problem, signal, () => setTag(dataset, example, tag, on));
    fill();
  };
  /** @param {string} tag */
  const toggle = (tag) => change(tag, !example.tags.includes(tag));
  function fill() {
    const removable = others(example.tags).map((tag) => removeButton(tag, () => change(tag, false)));
    bar.replaceChildren(
      ...switches(example, toggle),
      ...removable,
      newTagForm((tag) => change(tag, true)),
      problem,
    );
  }
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    const tag = isCommand(event) && tagOfKey(event.key);
    if (tag) toggle(tag);
  };
  document.addEventListener("keydown", onKey, { signal });
  fill();
  return bar;
}

/**
 * @param {string} tag
 * @param {() => void} remove
 */
function removeButton(tag, remove) {
  const button = el("button", { type: "button", class: "chip", "aria-label": `Take the tag ${tag} off` }, `${tag} ×`);
  button.addEventListener("click", remove);
  return button;
}

/** @param {(tag: string) => void} add */
function newTagForm(add) {
  const field = el("input", {
    id: "new-tag",
    size: 14,
    maxlength: 50,
    placeholder: "another tag",
    "aria-label": "Another tag, in lower case",
    autocomplete: "off",
  });
  const form = el("form", { class: "inline" }, field, el("button", {}, "Tag"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim()) add(field.value.trim());
  });
  return form;
}
