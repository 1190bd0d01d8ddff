// Drawings of one calibration: how well it forecasts, and how narrow the band of good thresholds is.
import { decimal, svg } from "../dom.js";

/** @import { CalibrationReply } from "../types.d.ts" */
/** @import { Child } from "../dom.js" */

const SIZE = 300;
const EDGE = 36;
const INSIDE = SIZE - 2 * EDGE;

/** @param {number} share From 0 to 1. */
const across = (share) => EDGE + INSIDE * share;

/** @param {number} share */
const up = (share) => SIZE - across(share);

/**
 * @param {number} x
 * @param {number} y
 * @param {string} text
 * @param {"start" | "middle" | "end"} [anchor]
 */
const word = (x, y, text, anchor = "middle") => svg("text", { x, y, "text-anchor": anchor, class: "mark" }, text);

/**
 * @param {string} label
 * @param {Child[]} marks
 */
const frame = (label, ...marks) =>
  svg(
    "svg",
    { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": label, class: "plot" },
    svg("rect", { x: EDGE, y: EDGE, width: INSIDE, height: INSIDE, class: "frame" }),
    ...marks,
  );

/**
 * Test accuracy against its forecast; on the line both are the same.
 *
 * @param {CalibrationReply} calibration
 */
export function scatter({ points, fit }) {
  const dots = points.map(({ run, checkpoint, forecast, test }) => {
    const text = `${run}, ${checkpoint}: forecast ${decimal(forecast)}, test accuracy ${decimal(test)}`;
    return svg("circle", { cx: across(forecast), cy: up(test), r: 3.5, class: "dot" }, svg("title", {}, text));
  });
  const upright = {
    x: 0,
    y: 0,
    "text-anchor": "middle",
    class: "mark",
    transform: `translate(12 ${SIZE / 2}) rotate(-90)`,
  };
  return frame(
    `Test accuracy of ${points.length} checkpoints against the forecast; R² on y = x ${decimal(fit.r2_identity)}`,
    svg("line", { x1: across(0), y1: up(0), x2: across(1), y2: up(1), class: "line" }),
    ...dots,
    word(SIZE / 2, SIZE - 6, "pre-memorization accuracy (the forecast)"),
    word(across(0), SIZE - 20, "0"),
    word(across(1), SIZE - 20, "1"),
    svg("text", upright, "test accuracy"),
  );
}

/**
 * R² against the threshold, from 0 up, with the band that keeps it at 0.9 or more and the threshold that was chosen.
 *
 * @param {CalibrationReply} calibration
 */
export function thresholdCurve({ thresholds, r2, band, memorized_below: chosen }) {
  const low = Math.min(...thresholds);
  const high = Math.max(...thresholds);
  /** @param {number} threshold */
  const at = (threshold) => across((threshold - low) / Math.max(high - low, 1e-9));
  const points = thresholds.flatMap((threshold, place) => {
    const r = r2[place];
    return r === null ? [] : [`${at(threshold).toFixed(1)},${up(Math.max(0, Math.min(1, r))).toFixed(1)}`];
  });
  const marks = [
    svg("polyline", { points: points.join(" "), class: "curve" }),
    svg("line", { x1: at(chosen), x2: at(chosen), y1: across(0), y2: across(1), class: "line" }),
  ];
  const good = band ? `0.9 or more from ${decimal(band[0], 4)} to ${decimal(band[1], 4)}` : "nowhere 0.9 or more";
  return frame(
    `R² against the threshold; ${good}`,
    ...(band ? [bandMark(at(band[0]), at(band[1]))] : []),
    ...marks,
    word(SIZE / 2, SIZE - 6, "memorized below perplexity"),
    word(across(0), SIZE - 20, decimal(low)),
    word(across(1), SIZE - 20, decimal(high)),
    word(EDGE - 4, across(1) + 4, "0", "end"),
    word(EDGE - 4, across(0) + 4, "1", "end"),
    word(EDGE + 4, EDGE - 8, "R² on y = x", "start"),
  );
}

/**
 * @param {number} from
 * @param {number} to
 */
const bandMark = (from, to) =>
  svg("rect", { x: from, width: Math.max(1, to - from), y: EDGE, height: INSIDE, class: "band" });
