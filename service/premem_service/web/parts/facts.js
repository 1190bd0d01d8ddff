// A number with its name, and what chosen examples have in common.
import { decimal, el } from "../dom.js";

/** @import { TraitReply } from "../types.d.ts" */

const MOST_TRAITS = 5;

/**
 * @param {string} value
 * @param {string} name
 * @param {{ id?: string, title?: string }} [more] The id of the value; what to say of it to a mouse that stands still.
 */
export const fact = (value, name, { id, title } = {}) =>
  el("div", { title }, el("b", { id }, value), el("span", { class: "quiet" }, name));

/** @param {TraitReply[]} traits */
export function traitList(traits) {
  if (!traits.length) return el("p", { class: "quiet" }, "Nothing that stands out.");
  const lines = traits
    .slice(0, MOST_TRAITS)
    .map(({ name, chosen, rest }) =>
      el("li", {}, `${name}: ${decimal(chosen, 2)} against ${decimal(rest, 2)} in the rest`),
    );
  return el("ul", {}, ...lines);
}
