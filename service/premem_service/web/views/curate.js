// Choosing what to train on next: what a policy chooses, beside what another would, and the lines that give the same.
import { getJob, getOverlap, getSelection } from "../api.js";
import { count, decimal, el, main, settled } from "../dom.js";
import { downloads, snippets } from "../parts/exports.js";
import { fact, traitList } from "../parts/facts.js";
import { exampleAddress, toExamples, toJob } from "../parts/links.js";
import { policyForm, policyQuery } from "../parts/policy.js";
import { messageOf, problemLine } from "../parts/problem.js";

/** @import { Overlap, Part, SelectedExample, Selection } from "../types.d.ts" */

const SHOWN = "12";

/**
 * @param {string} id
 * @param {AbortSignal} signal
 */
export async function curateView(id, signal) {
  const job = await getJob(id);
  if (signal.aborted) return;
  const one = policyForm("one", "Policy", job, "lowest");
  const other = policyForm("other", "Compared with", job, "band");
  const compare = el("input", { type: "checkbox", id: "compare" });
  const problem = problemLine();
  const into = el("div");
  main.replaceChildren(
    el("p", { class: "go" }, toJob(id), toExamples(id)),
    el("h1", {}, "Choose what to train on next"),
    one,
    el("p", {}, compare, " ", el("label", { for: "compare" }, "Compare with another policy")),
    other,
    problem,
    into,
  );
  let newest = 0;
  const draw = async () => {
    const turn = ++newest;
    const isNewest = () => turn === newest && !signal.aborted;
    const query = policyQuery(one);
    other.hidden = !compare.checked;
    try {
      const [selection, overlap] = await Promise.all([
        getSelection(id, shownOf(query), signal),
        compare.checked ? getOverlap(id, shownOf(both(query, policyQuery(other))), signal) : undefined,
      ]);
      if (!isNewest()) return;
      problem.textContent = "";
      into.replaceChildren(
        numbers(selection),
        ...(overlap ? [overlapCard(id, overlap)] : []),
        downloads(id, query, problem, signal),
        firstChosen(id, selection),
        snippets(id, query),
      );
      into.dataset.query = String(query);
    } catch (error) {
      if (!isNewest()) return;
      into.replaceChildren();
      problem.textContent = messageOf(error);
    }
  };
  for (const part of [one, other, compare]) part.addEventListener("input", settled(draw, 100));
  await draw();
}

/** @param {URLSearchParams} query */
const shownOf = (query) => new URLSearchParams([...query, ["limit", SHOWN]]);

/**
 * Two policies in one query.
 *
 * @param {URLSearchParams} one
 * @param {URLSearchParams} other
 */
const both = (one, other) =>
  new URLSearchParams([...one, ...[...other].map(([name, value]) => [`other_${name}`, value])]);

/** @param {Selection} selection */
function numbers({ total, qualified, excluded, notes }) {
  return el(
    "div",
    {},
    el(
      "div",
      { class: "facts" },
      fact(count(total), "chosen", { id: "chosen" }),
      fact(count(qualified), "qualify without a budget", { id: "qualified" }),
      fact(count(excluded), "left out: tagged excluded", { id: "excluded" }),
    ),
    ...notes.map((note) => el("p", { class: "quiet" }, note)),
  );
}

/**
 * @param {string} job
 * @param {Overlap} overlap
 */
function overlapCard(job, { lineage: one, other, both, only_one, only_other }) {
  /** @type {(id: string, name: string, part: Part) => HTMLElement} */
  const column = (id, name, part) => {
    const found = fact(count(part.total), name, { id });
    found.append(exampleList(job, part.first));
    return found;
  };
  return el(
    "section",
    { class: "card" },
    el("h2", {}, `${one.policy} beside ${other.policy}`),
    el(
      "div",
      { class: "three" },
      column("both", "in both", both),
      column("only-one", `only in ${one.policy}`, only_one),
      column("only-other", `only in ${other.policy}, the second`, only_other),
    ),
  );
}

/**
 * @param {string} job
 * @param {Selection} selection
 */
function firstChosen(job, { chosen, traits }) {
  return el(
    "div",
    { class: "two" },
    el(
      "section",
      { class: "card" },
      el("h2", {}, "The first chosen examples, with their scores"),
      exampleList(job, chosen),
    ),
    el("section", { class: "card" }, el("h2", {}, "What the chosen have in common"), traitList(traits)),
  );
}

/**
 * @param {string} job
 * @param {SelectedExample[]} examples
 */
function exampleList(job, examples) {
  const lines = examples.map(({ row, id, score }) =>
    el("li", {}, el("a", { href: exampleAddress(job, row) }, id), el("span", { class: "quiet" }, ` ${decimal(score)}`)),
  );
  return el("ul", { class: "plain" }, ...lines);
}
