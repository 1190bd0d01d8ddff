// What one example did, small enough for a row of the table.
import { decimal, el, pencil } from "../dom.js";
import { shade, surpriseOf } from "./heatmap.js";

/** @import { ScoredExample } from "../types.d.ts" */

/**
 * Accuracy and perplexity at every checkpoint, in the colors of the heatmap.
 *
 * @param {ScoredExample} example
 */
export function trajectoryCell({ accuracy, perplexity, memorized_at }) {
  const canvas = el("canvas", { class: "strip", width: accuracy.length, height: 1, "aria-hidden": true });
  const context = pencil(canvas);
  accuracy.forEach((share, c) => {
    const drawn = share !== null && perplexity[c] !== null;
    context.fillStyle = drawn ? `rgb(${shade(share, surpriseOf(perplexity[c])).join(" ")})` : "rgb(128 128 128)";
    context.fillRect(c, 0, 1, 1);
  });
  const text = memorized_at ? `memorized at ${memorized_at}` : "never memorized";
  return [canvas, el("span", { class: "quiet small", title: text }, text)];
}

/**
 * The score with its interval, in figures and as a dot on a bar from 0 to 1.
 *
 * @param {ScoredExample} example
 */
export function scoreCell({ pre_memorization_accuracy: score, interval }) {
  const bar = el("span", { class: "whisker", "aria-hidden": true });
  const figures = ` ${decimal(interval.low, 2)}–${decimal(interval.high, 2)}`;
  const range = el("s");
  range.style.left = `${100 * interval.low}%`;
  range.style.width = `${100 * (interval.high - interval.low)}%`;
  const dot = el("i");
  dot.style.left = `${100 * score}%`;
  bar.append(range, dot);
  return [el("b", {}, decimal(score)), el("span", { class: "quiet small" }, figures), bar];
}
