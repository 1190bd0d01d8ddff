// Charts of one job: a histogram of its scores, and curves over its checkpoints.
import { color, pencil } from "../dom.js";
import { atCheckpoint, mean } from "./memorization.js";

/** @import { CheckpointReport, ForecastReply } from "../types.d.ts" */
/** @import { Matrix } from "./memorization.js" */

const BINS = 20;
const HEIGHT = 150;
const BAR = 30;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Float32Array} scores From 0 to 1.
 */
export function histogram(canvas, scores) {
  const bins = new Array(BINS).fill(0);
  for (const score of scores) if (!Number.isNaN(score)) bins[Math.min(BINS - 1, Math.floor(score * BINS))]++;
  const most = Math.max(...bins, 1);
  canvas.width = BINS * BAR;
  canvas.height = HEIGHT;
  const context = pencil(canvas);
  context.fillStyle = color("--accent");
  bins.forEach((n, at) => {
    const height = (n / most) * (HEIGHT - 8);
    context.fillRect(at * BAR + 2, HEIGHT - height, BAR - 4, height);
  });
}

/** @typedef {{ label: string, stroke: string, values: (number | null)[] }} Curve */

/**
 * @param {HTMLElement} into
 * @param {Matrix} matrix
 * @param {CheckpointReport[]} checkpoints
 * @param {Float32Array} scores C × E.
 * @param {number} memorizedBelow
 */
export function plot(into, matrix, checkpoints, scores, memorizedBelow) {
  const curves = [...measuredCurves(matrix, scores, memorizedBelow), ...reportedCurves(checkpoints)];
  const axis = { stroke: color("--quiet"), grid: { stroke: color("--line") } };
  /** @type {(plot: unknown, marks: number[]) => (number | string)[]} */
  const wholeNumbers = (_, marks) => marks.map((mark) => (Number.isInteger(mark) ? mark : ""));
  const look = {
    width: Math.max(280, into.clientWidth),
    height: 240,
    scales: { x: { time: false }, y: { range: [0, 1] } },
    axes: [{ ...axis, values: wholeNumbers }, axis],
    series: [
      { label: "checkpoint" },
      ...curves.map(({ label, stroke }) => ({ label, stroke, width: 2, points: { show: true } })),
    ],
  };
  into.replaceChildren();
  new uPlot(look, [checkpoints.map((_, c) => c + 1), ...curves.map(({ values }) => values)], into);
}

/**
 * Means over the examples; null where not every answer was drawn.
 *
 * @param {Matrix} matrix
 * @param {Float32Array} scores
 * @param {number} memorizedBelow
 * @returns {Curve[]}
 */
function measuredCurves(matrix, scores, memorizedBelow) {
  /** @param {Float32Array} values */
  const means = (values) =>
    Array.from({ length: matrix.C }, (_, c) => mean(atCheckpoint(values, matrix, c))).map((x) =>
      Number.isNaN(x) ? null : x,
    );
  const memorized = matrix.perplexity.map((p) => (Number.isNaN(p) ? NaN : Number(p < memorizedBelow)));
  return [
    { label: "accuracy", stroke: "#2f7fc2", values: means(matrix.accuracy) },
    { label: "memorized", stroke: "#8a8a8a", values: means(memorized) },
    { label: "pre-memorization", stroke: "#c2571a", values: means(scores) },
  ];
}

/**
 * What was measured on a test set, and what a calibration forecasts of it.
 *
 * @param {CheckpointReport[]} checkpoints
 * @returns {Curve[]}
 */
function reportedCurves(checkpoints) {
  /** @param {keyof ForecastReply} part */
  const forecast = (part) => checkpoints.map((one) => one.forecast?.[part] ?? null);
  const curves = [
    { label: "test accuracy", stroke: "#3d9a5f", values: checkpoints.map((one) => one.test_accuracy) },
    { label: "forecast", stroke: "#8e5bb5", values: forecast("accuracy") },
    { label: "forecast, low", stroke: "#c9b3dc", values: forecast("low") },
    { label: "forecast, high", stroke: "#c9b3dc", values: forecast("high") },
  ];
  return curves.filter(({ values }) => values.some((value) => value !== null));
}
