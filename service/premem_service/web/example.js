// One example: its question, its reference, and every answer diffed against it.
import { ask, el, main, share } from "./dom.js";
import { beside, listOf } from "./ranked.js";
import { tagBar } from "./tags.js";

export async function examplePage(job, row, signal) {
  const path = `/v1/jobs/${encodeURIComponent(job)}`;
  const [seen, { dataset }] = await Promise.all([ask(`${path}/examples/${row}`), ask(path)]);
  if (signal.aborted) return;
  document.addEventListener("keydown", (event) => {
    const by = { j: 1, k: -1 }[event.key];
    if (!by || event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = beside(job, row, by);
    if (next) location.replace(`#/jobs/${job}/examples/${next.row}`);
  }, { signal });
  main.replaceChildren(
    el("p", { class: "go" }, el("a", { href: `#/jobs/${job}` }, "Back to the job"), el("a", { href: listOf(job) }, "Back to the list"), el("span", { class: "quiet" }, "j and k: the next in the list, and the one before")), el("h1", {}, `Example ${seen.id}`),
    el("p", { class: "quiet" }, `rank ${seen.rank}, row ${seen.row}, pre-memorization accuracy ${share(seen.pre_memorization_accuracy)}${seen.memorized_at ? `, memorized at ${seen.memorized_at}` : ", never memorized"}`),
    tagBar(dataset, seen, signal),
    el("section", { class: "card" }, el("h2", {}, "Question"), el("pre", { tabindex: "0" }, seen.question)),
    el("section", { class: "card" }, el("h2", {}, "Reference"), el("pre", { tabindex: "0" }, seen.trace)),
    ...seen.checkpoints.map((checkpoint) => el("section", { class: "card" }, el("h2", {}, checkpoint.checkpoint),
      el("p", { class: "quiet" }, `accuracy ${checkpoint.accuracy === null ? "not drawn" : share(checkpoint.accuracy)}, perplexity ${share(checkpoint.perplexity)}${checkpoint.memorized ? ", memorized" : ""}`),
      ...checkpoint.answers.map((answer) => el("div", {}, el("b", {}, answer.verdict), difference(seen.trace, answer.text))))));
}

// Words of the answer that the reference lacks are marked as inserted, words that it leaves out as deleted.
function difference(reference, text) {
  const parts = reference.length + text.length < 20000 ? Diff.diffWordsWithSpace(reference, text, { timeout: 200 }) : undefined;
  if (!parts) return el("pre", { tabindex: "0" }, text);
  return el("pre", { tabindex: "0" }, ...parts.map((part) => (part.added ? el("ins", {}, part.value) : part.removed ? el("del", {}, part.value) : part.value)));
}
