// Calibrations: what each one's threshold forecasts of its runs, and how narrow the band of good thresholds is.

const SPACE = "http://www.w3.org/2000/svg", SIZE = 300, EDGE = 36;

function draw(name, attributes, ...children) {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
const place = (share) => EDGE + (SIZE - 2 * EDGE) * share;
const word = (x, y, text, anchor = "middle") => draw("text", { x, y, "text-anchor": anchor, class: "mark" }, text);
const plot = (label, ...marks) => draw("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": label, class: "plot" },
  draw("rect", { x: EDGE, y: EDGE, width: SIZE - 2 * EDGE, height: SIZE - 2 * EDGE, class: "frame" }), ...marks);

// Test accuracy against its forecast; on the line both are the same.
function scatter({ points, fit }) {
  const dots = points.map((point) => draw("circle", { cx: place(point.forecast), cy: SIZE - place(point.test), r: 3.5, class: "dot" },
    draw("title", {}, `${point.run}, ${point.checkpoint}: forecast ${point.forecast.toFixed(3)}, test accuracy ${point.test.toFixed(3)}`)));
  return plot(`Test accuracy of ${points.length} checkpoints against the forecast; R² on y = x ${number(fit.r2_identity)}`,
    draw("line", { x1: place(0), y1: SIZE - place(0), x2: place(1), y2: SIZE - place(1), class: "line" }), ...dots,
    word(SIZE / 2, SIZE - 6, "pre-memorization accuracy (the forecast)"), word(place(0), SIZE - 20, "0"), word(place(1), SIZE - 20, "1"),
    draw("text", { x: 0, y: 0, "text-anchor": "middle", class: "mark", transform: `translate(12 ${SIZE / 2}) rotate(-90)` }, "test accuracy"));
}

// R² against the threshold, from 0 up, with the band that keeps it at 0.9 or more and the threshold that was taken.
function curve({ thresholds, r2, band, memorized_below: taken }) {
  const low = Math.min(...thresholds), high = Math.max(...thresholds);
  const across = (value) => place((value - low) / Math.max(high - low, 1e-9));
  const shown = thresholds.map((value, at) => [value, r2[at]]).filter(([, r]) => r !== null);
  const line = shown.map(([value, r]) => `${across(value).toFixed(1)},${(SIZE - place(Math.max(0, Math.min(1, r)))).toFixed(1)}`).join(" ");
  const marks = [draw("polyline", { points: line, class: "curve" }), draw("line", { x1: across(taken), x2: across(taken), y1: place(0), y2: place(1), class: "line" })];
  if (band) marks.unshift(draw("rect", { x: across(band[0]), width: Math.max(1, across(band[1]) - across(band[0])), y: EDGE, height: SIZE - 2 * EDGE, class: "band" }));
  return plot(`R² against the threshold; ${band ? `0.9 or more from ${band[0].toFixed(4)} to ${band[1].toFixed(4)}` : "it reaches 0.9 nowhere"}`, ...marks,
    word(SIZE / 2, SIZE - 6, "memorized below perplexity"), word(place(0), SIZE - 20, low.toFixed(3)), word(place(1), SIZE - 20, high.toFixed(3)),
    word(EDGE - 4, place(1) + 4, "0", "end"), word(EDGE - 4, place(0) + 4, "1", "end"), word(EDGE + 4, EDGE - 8, "R² on y = x", "start"));
}

const number = (x) => (x === null ? "–" : x.toFixed(3));

export async function calibrationsPage({ el, ask, main, signal }) {
  const { items } = await ask("/v1/calibrations?limit=100");
  if (signal.aborted) return;
  const cards = items.map((one) => el("section", { class: "card calibration" }, el("h2", {}, one.name),
    el("p", {}, `Memorized below perplexity ${one.memorized_below.toFixed(4)} (90% interval over runs ${one.interval.map((x) => x.toFixed(4)).join(" to ")}), rule ${one.rule}, ${one.jobs.length} runs of ${one.setting.model} on ${one.setting.task}.`),
    el("p", { title: "Each run was forecast with the threshold that the others give" }, `Runs left out: R² on y = x ${number(one.left_out.r2_identity)}, mean absolute error ${number(one.left_out.mae)}; a forecast's 90% interval is ± ${number(one.half_width)}.`),
    ...one.warnings.map((text) => el("p", { class: "warn" }, text)), el("div", { class: "two" }, scatter(one), curve(one))));
  main.replaceChildren(el("a", { href: "#/" }, "All jobs"), el("h1", {}, "Calibrations"),
    ...(cards.length ? cards : [el("p", {}, "There are none. A calibration learns from several completed jobs with test sets, which differ in their learning rate, what threshold forecasts test accuracy:"), el("pre", {}, "premem calibrate mine JOB JOB JOB")]));
}
