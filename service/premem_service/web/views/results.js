// What a completed job measured: a threshold to move, a heatmap, curves over checkpoints, and the scores.
import { getMatrix, getReport } from "../api.js";
import { count, decimal, el } from "../dom.js";
import { histogram, plot } from "../parts/charts.js";
import { traitList } from "../parts/facts.js";
import { paint, placeAt } from "../parts/heatmap.js";
import { exampleAddress, toCurate, toExamples } from "../parts/links.js";
import { atCheckpoint, decode, mean, order, preMemorizationAccuracies } from "../parts/memorization.js";

/** @import { JobReport, LowReply } from "../types.d.ts" */
/** @import { Matrix } from "../parts/memorization.js" */

const ONLY_AT_THIS_THRESHOLD =
  "Only the answers that the scores need at this threshold were drawn. To move the threshold, score with the " +
  "trajectory “everything”.";

/** @type {Record<string, [down: number, right: number]>} */
const ARROWS = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };

/**
 * @param {string} job
 * @param {HTMLElement} into
 * @param {AbortSignal} signal
 */
export async function showResults(job, into, signal) {
  const [report, buffer] = await Promise.all([getReport(job), getMatrix(job)]);
  if (signal.aborted) return;
  new Results(job, report, decode(buffer)).show(into);
}

class Results {
  /** The example (by its place from the top) and checkpoint that mouse or keys are at. */
  #at = { place: 0, c: 0 };
  #frame = 0;
  /** @type {Float32Array} C × E, under the threshold that is set. */
  #scores = new Float32Array();
  /** Of the examples, the lowest score first. */
  #ranked = new Uint32Array();

  #slider;
  #below = el("output", { for: "threshold", id: "below" });
  #mean = el("b", { id: "score" });
  #hover = el("p", { class: "hover", id: "hover" }, "Hover to see values; click to open the example.");
  #curves = el("div", { id: "curves" });
  #map = el("canvas", {
    class: "map",
    tabindex: 0,
    role: "img",
    "aria-label": "Heatmap of examples by checkpoints. Arrow keys move, Enter opens the example.",
  });
  #bars = el("canvas", { class: "bars", role: "img", "aria-label": "Histogram of pre-memorization accuracies" });

  /**
   * @param {string} job
   * @param {JobReport} report
   * @param {Matrix} matrix
   */
  constructor(job, report, matrix) {
    this.job = job;
    this.report = report;
    this.matrix = matrix;
    // Known, since the job is completed.
    const below = /** @type {number} */ (report.threshold.memorized_below);
    this.#slider = el("input", {
      type: "range",
      id: "threshold",
      min: 1.005,
      max: Math.max(3, below * 1.5).toFixed(3),
      step: 0.001,
      value: below,
      disabled: matrix.whole ? undefined : "",
    });
    this.#slider.addEventListener("input", () => {
      cancelAnimationFrame(this.#frame);
      this.#frame = requestAnimationFrame(() => this.#redraw());
    });
    this.#map.addEventListener("mousemove", (event) => this.#point(placeAt(this.#map, event, matrix)));
    this.#map.addEventListener("click", (event) => {
      this.#point(placeAt(this.#map, event, matrix));
      this.#open();
    });
    this.#map.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** @param {HTMLElement} into */
  show(into) {
    into.replaceChildren(
      el("p", { class: "go" }, toExamples(this.job), toCurate(this.job)),
      this.#thresholdCard(),
      this.#mapCard(),
      el("div", { class: "two" }, this.#curvesCard(), this.#scoresCard()),
    );
    this.#redraw();
  }

  #thresholdCard() {
    return el(
      "section",
      { class: "card" },
      el("h2", {}, el("label", { for: "threshold" }, "Memorized below perplexity "), this.#below),
      this.#slider,
      el(
        "p",
        { class: "quiet" },
        "Mean pre-memorization accuracy (the best accuracy while not memorized, capped by the last accuracy): ",
        this.#mean,
      ),
      ...(this.matrix.whole ? [] : [el("p", { class: "quiet", id: "fixed" }, ONLY_AT_THIS_THRESHOLD)]),
    );
  }

  #mapCard() {
    const { C, E } = this.matrix;
    const names = this.report.checkpoints.map(({ checkpoint }) => el("span", { title: checkpoint }, checkpoint));
    return el(
      "section",
      { class: "card" },
      el("h2", {}, `${count(E)} examples × ${C} checkpoints, the lowest score on top`),
      this.#map,
      el("div", { class: "names" }, ...names),
      this.#hover,
      el(
        "p",
        { class: "quiet" },
        "Ochre: never right; blue: always right; dark: the reference is memorized; grey: not every answer was drawn.",
      ),
    );
  }

  #curvesCard() {
    return el("section", { class: "card" }, el("h2", {}, "Over checkpoints"), this.#curves);
  }

  #scoresCard() {
    const ends = ["0", "examples by pre-memorization accuracy", "1"].map((text) => el("span", {}, text));
    return el(
      "section",
      { class: "card" },
      el("h2", {}, "Scores"),
      this.#bars,
      el("div", { class: "ends" }, ...ends),
      ...commonTraits(this.report.low),
    );
  }

  /** @param {Float32Array} values C × E. */
  #last(values) {
    return atCheckpoint(values, this.matrix, this.matrix.C - 1);
  }

  #redraw() {
    const below = Number(this.#slider.value);
    this.#scores = preMemorizationAccuracies(this.matrix, below);
    const last = this.#last(this.#scores);
    this.#ranked = order(last);
    this.#below.textContent = below.toFixed(3);
    this.#mean.textContent = decimal(mean(last));
    const started = performance.now();
    paint(this.#map, this.matrix, this.#ranked);
    this.#map.dataset.milliseconds = (performance.now() - started).toFixed(1);
    histogram(this.#bars, last);
    plot(this.#curves, this.matrix, this.report.checkpoints, this.#scores, below);
  }

  /** @param {{ place: number, c: number }} at */
  #point(at) {
    this.#at = at;
    const { E, row, accuracy, perplexity } = this.matrix;
    const e = this.#ranked[at.place];
    const i = at.c * E + e;
    const share = Number.isNaN(accuracy[i]) ? "not drawn" : decimal(accuracy[i]);
    this.#hover.textContent =
      `row ${row[e]}, ${this.report.checkpoints[at.c].checkpoint}: accuracy ${share}, ` +
      `perplexity ${decimal(perplexity[i])}, score ${decimal(this.#last(this.#scores)[e])}`;
  }

  #open() {
    location.hash = exampleAddress(this.job, this.matrix.row[this.#ranked[this.#at.place]]);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.key === "Enter") this.#open();
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    const { C, E } = this.matrix;
    const [down, right] = ARROWS[event.key];
    const { place, c } = this.#at;
    this.#point({
      place: Math.min(Math.max(place + down, 0), E - 1),
      c: Math.min(Math.max(c + right, 0), C - 1),
    });
  }
}

/** @param {LowReply} low */
const commonTraits = ({ examples, below, traits }) => [
  el("h2", {}, `What the ${examples} under ${below} have in common`),
  traitList(traits),
];
