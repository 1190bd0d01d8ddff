// Filters of the ranked examples, and the query that they make.
import { count, el, options } from "../dom.js";
import { EXCLUDED, MARKED } from "./tags.js";

/** @import { TagCount } from "../types.d.ts" */
/** @import { Attribute } from "../dom.js" */

const SHARES = { min: 0, max: 1 };
const PERPLEXITIES = { min: 1 };
const FIRST_AT = "at ";

/** @typedef {[value: string, text: string][]} Pairs */

/**
 * @param {string[]} checkpoints
 * @param {TagCount[]} tags
 * @param {URLSearchParams} query What is set at first.
 */
export function filterForm(checkpoints, tags, query) {
  /** @type {(name: string, title: string, placeholder: string, within: Record<string, Attribute>) => HTMLElement} */
  const number = (name, title, placeholder, within) => {
    const look = { name, type: "number", ...within, step: "any", "aria-label": title, title, placeholder };
    return el("input", { ...look, value: query.get(name) ?? undefined });
  };
  return el(
    "form",
    { class: "card filters", role: "search" },
    searchField(query.get("search") ?? undefined),
    el(
      "span",
      {},
      "Score ",
      number("above", "Score of at least", "from", SHARES),
      " ",
      number("below", "Score under", "under", SHARES),
    ),
    el(
      "span",
      {},
      "90% interval ",
      number("interval_above", "Lower end of at least", "from", SHARES),
      " ",
      number("interval_below", "Upper end under", "under", SHARES),
    ),
    el(
      "span",
      {},
      "Last perplexity ",
      number("perplexity_above", "Perplexity at the last checkpoint of at least", "from", PERPLEXITIES),
      " ",
      number("perplexity_below", "Perplexity at the last checkpoint under", "under", PERPLEXITIES),
    ),
    select("memory", "Memorized", momentOptions(checkpoints), momentOf(query)),
    select("tag", "Tag", [["", "any"], ...tagOptions(tags)], query.get("tag") ?? ""),
    select("without_tag", "Without tag", [["", "–"], ...tagOptions(tags)], query.get("without_tag") ?? ""),
    el("button", { type: "reset" }, "Clear"),
  );
}

/** @param {string | undefined} value */
function searchField(value) {
  const name = "Search the questions";
  return el("input", { name: "search", type: "search", maxlength: 500, placeholder: name, "aria-label": name, value });
}

/**
 * @param {string} name
 * @param {string} label
 * @param {Pairs} pairs
 * @param {string} chosen
 */
const select = (name, label, pairs, chosen) =>
  el("label", {}, label, " ", el("select", { name }, ...options(pairs, chosen)));

/**
 * When an example was memorized: one select for two parameters of the query.
 *
 * @param {string[]} checkpoints
 * @returns {Pairs}
 */
const momentOptions = (checkpoints) => [
  ["", "any"],
  ["true", "at some checkpoint"],
  ["false", "never"],
  ...checkpoints.map((name) => /** @type {Pairs[number]} */ ([FIRST_AT + name, `first at ${name}`])),
];

/** @param {URLSearchParams} query */
function momentOf(query) {
  const checkpoint = query.get("memorized_at");
  return checkpoint === null ? (query.get("memorized") ?? "") : FIRST_AT + checkpoint;
}

/**
 * @param {TagCount[]} tags
 * @returns {Pairs}
 */
function tagOptions(tags) {
  const rows = new Map([EXCLUDED, MARKED].map((tag) => [tag, 0]));
  for (const one of tags) rows.set(one.tag, one.rows);
  return [...rows].map(([tag, n]) => [tag, `${tag} (${count(n)})`]);
}

/**
 * What is set, as the service reads it.
 *
 * @param {HTMLFormElement} form Of filterForm.
 */
export function filterQuery(form) {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (typeof value !== "string" || value === "") continue;
    if (name !== "memory") query.set(name, value);
    else if (value.startsWith(FIRST_AT)) query.set("memorized_at", value.slice(FIRST_AT.length));
    else query.set("memorized", value);
  }
  return query;
}
