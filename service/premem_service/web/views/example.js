// One example: its question, its reference, and every answer diffed against it.
import { getExample, getJob } from "../api.js";
import { decimal, el, isCommand, main } from "../dom.js";
import { exampleAddress, listAddress, neighbour, toJob } from "../parts/links.js";
import { tagBar } from "../parts/tags.js";

/** @import { CheckpointAnswers, ExampleDetail } from "../types.d.ts" */

const LONGEST_DIFFED = 20_000; // characters, of both texts together
const LONGEST_DIFF = 200; // milliseconds

/** @type {Record<string, number>} */
const STEPS = { j: 1, k: -1 };

/**
 * @param {string} job
 * @param {number} row
 * @param {AbortSignal} signal
 */
export async function exampleView(job, row, signal) {
  const [example, { dataset }] = await Promise.all([getExample(job, row), getJob(job)]);
  if (signal.aborted) return;
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    if (!(event.key in STEPS) || !isCommand(event)) return;
    const next = neighbour(job, row, STEPS[event.key]);
    if (next) location.replace(exampleAddress(job, next.row));
  };
  document.addEventListener("keydown", onKey, { signal });
  main.replaceChildren(
    el(
      "p",
      { class: "go" },
      toJob(job),
      el("a", { href: listAddress(job) }, "Back to the list"),
      el("span", { class: "quiet" }, "j: the next in the list; k: the one before"),
    ),
    el("h1", {}, `Example ${example.id}`),
    el("p", { class: "quiet" }, summary(example)),
    tagBar(dataset, example, signal),
    textCard("Question", example.question),
    textCard("Reference", example.trace),
    ...example.checkpoints.map((checkpoint) => answersCard(checkpoint, example.trace)),
  );
}

/** @param {ExampleDetail} example */
function summary({ rank, row, pre_memorization_accuracy, memorized_at }) {
  const memorized = memorized_at ? `memorized at ${memorized_at}` : "never memorized";
  return `rank ${rank}, row ${row}, pre-memorization accuracy ${decimal(pre_memorization_accuracy)}, ${memorized}`;
}

/**
 * @param {string} name
 * @param {string} text
 */
const textCard = (name, text) => el("section", { class: "card" }, el("h2", {}, name), el("pre", { tabindex: 0 }, text));

/**
 * @param {CheckpointAnswers} answers
 * @param {string} reference
 */
function answersCard({ checkpoint, accuracy, perplexity, memorized, answers }, reference) {
  const share = accuracy === null ? "not drawn" : decimal(accuracy);
  return el(
    "section",
    { class: "card" },
    el("h2", {}, checkpoint),
    el(
      "p",
      { class: "quiet" },
      `accuracy ${share}, perplexity ${decimal(perplexity)}${memorized ? ", memorized" : ""}`,
    ),
    ...answers.map(({ verdict, text }) => el("div", {}, el("b", {}, verdict), difference(reference, text))),
  );
}

/**
 * Words of the answer that the reference lacks are marked as inserted, words that it leaves out as deleted.
 *
 * @param {string} reference
 * @param {string} text
 */
function difference(reference, text) {
  const short = reference.length + text.length < LONGEST_DIFFED;
  const parts = short ? Diff.diffWordsWithSpace(reference, text, { timeout: LONGEST_DIFF }) : undefined;
  const words = parts?.map(({ added, removed, value }) => {
    if (added) return el("ins", {}, value);
    return removed ? el("del", {}, value) : value;
  });
  return el("pre", { tabindex: 0 }, ...(words ?? [text]));
}
