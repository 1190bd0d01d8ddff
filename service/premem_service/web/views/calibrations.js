// Calibrations: what each one's threshold forecasts of its runs, and how narrow the band of good thresholds is.
import { getCalibrations } from "../api.js";
import { decimal, el, main } from "../dom.js";
import { scatter, thresholdCurve } from "../parts/fit_charts.js";
import { toAllJobs } from "../parts/links.js";

/** @import { CalibrationReply } from "../types.d.ts" */

/** @param {AbortSignal} signal */
export async function calibrationsView(signal) {
  const { items } = await getCalibrations();
  if (signal.aborted) return;
  main.replaceChildren(toAllJobs(), el("h1", {}, "Calibrations"), ...(items.length ? items.map(card) : none()));
}

const none = () => [
  el(
    "p",
    {},
    "There are none yet. A calibration learns from several completed jobs, which have test sets and differ in their " +
      "learning rate, which threshold forecasts test accuracy:",
  ),
  el("pre", {}, "premem calibrate mine JOB JOB JOB"),
];

/** @param {CalibrationReply} calibration */
function card(calibration) {
  const { memorized_below, interval, rule, jobs, setting, left_out, half_width } = calibration;
  const [low, high] = interval;
  return el(
    "section",
    { class: "card calibration" },
    el("h2", {}, calibration.name),
    el(
      "p",
      {},
      `Memorized below perplexity ${decimal(memorized_below, 4)} (90% interval over runs ${decimal(low, 4)} to ` +
        `${decimal(high, 4)}), rule ${rule}, ${jobs.length} runs of ${setting.model} on ${setting.task}.`,
    ),
    el(
      "p",
      { title: "Each run was forecast with the threshold that the others give" },
      `Runs left out: R² on y = x ${decimal(left_out.r2_identity)}, mean absolute error ${decimal(left_out.mae)}; ` +
        `a forecast's 90% interval is ± ${decimal(half_width)}.`,
    ),
    ...calibration.warnings.map((text) => el("p", { class: "warn" }, text)),
    el("div", { class: "two" }, scatter(calibration), thresholdCurve(calibration)),
  );
}
