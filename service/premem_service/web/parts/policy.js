// The form in which a policy is chosen, and the query that it makes.
import { el, options } from "../dom.js";

/** @import { Job, PolicyName } from "../types.d.ts" */
/** @import { Attribute } from "../dom.js" */

/** @type {[policy: PolicyName, meaning: string][]} */
const POLICIES = [
  ["lowest", "score under “below”, lowest first"],
  ["band", "score from “above” up to “below”"],
  ["variance", "the score nearest to 0.5 first"],
  ["mean", "mean accuracy under “below”"],
  ["random", "drawn at random"],
];
const BAND = "band";
const SHARE = { min: 0, max: 1, step: "any" };

/**
 * @param {string} id
 * @param {string} title
 * @param {Job} job Whose threshold of scores is offered, where it has one.
 * @param {PolicyName} policy That is chosen at first.
 */
export function policyForm(id, title, job, policy) {
  const names = POLICIES.map(([name, meaning]) => /** @type {[string, string]} */ ([name, `${name}: ${meaning}`]));
  const select = el("select", { name: "policy" }, ...options(names, policy));
  const above = field("above", "Above", { ...SHARE, value: policy === BAND ? 0.2 : 0 });
  const form = el(
    "form",
    { class: "card filters", id, "aria-label": title },
    el("label", {}, `${title} `, select),
    above,
    field("below", "Below", { ...SHARE, value: job.below ?? (policy === BAND ? 0.8 : 0.5) }),
    field("budget", "Budget", { min: 1, step: 1, placeholder: "all" }),
    field("seed", "Seed", { min: 0, step: 1, value: 0 }),
  );
  const showAbove = () => {
    above.hidden = select.value !== BAND;
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", showAbove);
  showAbove();
  return form;
}

/**
 * @param {string} name
 * @param {string} label
 * @param {Record<string, Attribute>} attributes
 */
const field = (name, label, attributes) =>
  el("label", {}, label, " ", el("input", { name, type: "number", ...attributes }));

/**
 * What is set; “above” means something in a band only.
 *
 * @param {HTMLFormElement} form Of policyForm.
 */
export function policyQuery(form) {
  const set = [...new FormData(form)].map(([name, value]) => [name, String(value)]);
  const query = new URLSearchParams(set.filter(([, value]) => value !== ""));
  if (query.get("policy") !== BAND) query.delete("above");
  return query;
}
