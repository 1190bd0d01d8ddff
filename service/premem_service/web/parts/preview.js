// The first rows of a data set as the model will see them: the prompt, and marked what is scored.
import { count, el } from "../dom.js";

/** @import { Dataset, Preview, PreviewRow, PreviewTokens } from "../types.d.ts" */

const MOST_LINES = 5;
const IN_A_CHAT =
  "What the user says and, marked, what the assistant says, which is scored. The chat template of the checkpoints' " +
  "tokenizer writes the turns around both:";
const PLAIN = "What the model is asked and, marked, what is scored after it:";

/**
 * @param {Preview} preview
 * @param {HTMLElement} into
 */
export function showPreview({ dataset, template, rows, untokenized }, into) {
  into.replaceChildren(
    el("p", {}, columnsOf(dataset)),
    ...(dataset.ungradable ? [el("p", { class: "warn" }, ungradableOf(dataset))] : []),
    el("p", { class: "quiet" }, template.chat ? IN_A_CHAT : PLAIN),
    ...(untokenized
      ? [el("p", { class: "quiet", id: "untokenized" }, `Marked by characters, not by tokens: ${untokenized}.`)]
      : []),
    ...rows.flatMap((row) => (row.tokens ? byTokens(row.tokens) : [byCharacters(row, template.chat)])),
  );
}

/** @param {Dataset} dataset */
function columnsOf({ rows, columns, grader, grader_reason }) {
  const named = Object.entries(columns).filter(([, column]) => column !== null);
  const parts = named.map(([part, column]) => `${part} from “${column}”`);
  const reason = grader_reason ? ` (${grader_reason})` : "";
  return `${count(rows)} rows; ${parts.join(", ")}; grader ${grader.name}${reason}.`;
}

/** @param {Dataset} dataset */
function ungradableOf({ ungradable, ungradable_lines }) {
  const lines = ungradable_lines.slice(0, MOST_LINES).map(({ line, message }) => `line ${line}: ${message}`);
  return `In ${ungradable} rows the grader does not accept the reference itself as a right answer: ${lines.join("; ")}`;
}

/**
 * @param {PreviewRow} row
 * @param {boolean} [chat]
 */
const byCharacters = ({ prompt, target }, chat) =>
  el("pre", { tabindex: 0 }, prompt, chat ? "\n" : "", el("mark", {}, target));

/**
 * Every other scored token is shaded.
 *
 * @param {PreviewTokens} tokens
 */
function byTokens({ texts, target_start, shifted }) {
  const prompt = texts.slice(0, target_start).join("");
  const scored = texts.slice(target_start);
  const spans = scored.map((text, at) => el("span", { class: at % 2 ? "odd" : undefined }, text));
  const shared = shifted ? "; the first of them also covers the end of the prompt" : "";
  const counts = `${count(scored.length)} tokens are scored, after ${count(target_start)} that are not${shared}.`;
  return [el("pre", { tabindex: 0 }, prompt, el("mark", {}, ...spans)), el("p", { class: "quiet" }, counts)];
}
