import { decode, mean, order, preMemorizationAccuracies } from "./memorization.js";
import { paint, placeAt } from "./heatmap.js";
import { newJobPage } from "./newjob.js";
import { calibrationsPage } from "./calibrations.js";
import { NeedsKey, ask, color, duration, el, leave, main, share } from "./dom.js";
import { examplePage } from "./example.js";
import { rankedPage } from "./ranked.js";
import { curatePage } from "./curate.js";

const ENDED = ["completed", "failed", "cancelled"];

async function show() {
  const signal = leave(), [path, query] = location.hash.split("?"), [, noun, job, part, row] = path.split("/");
  try {
    if (noun === "new") await newJobPage({ el, ask, main, signal });
    else if (noun === "calibrations") await calibrationsPage({ el, ask, main, signal });
    else if (noun !== "jobs") await jobsPage(signal);
    else if (row !== undefined) await examplePage(job, Number(row), signal);
    else if (part === "examples") await rankedPage(job, new URLSearchParams(query), signal);
    else if (part === "curate") await curatePage(job, new URLSearchParams(query), signal);
    else await jobPage(job, signal);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof NeedsKey) askForKey();
    else main.replaceChildren(el("h1", {}, "That did not work"), el("p", { class: "warn", role: "alert" }, error.message), el("a", { href: "#/" }, "Back to all jobs"));
  }
}

function askForKey() {
  const field = el("input", { type: "password", id: "key", autocomplete: "off" });
  const form = el("form", { class: "card" }, el("h1", {}, "This service asks for a key"), el("p", {}, el("label", { for: "key" }, "Key (pmk_…), kept until this tab is closed")), field, " ", el("button", {}, "Go on"));
  form.addEventListener("submit", (event) => { event.preventDefault(); sessionStorage.setItem("premem-key", field.value.trim()); show(); });
  main.replaceChildren(form);
  field.focus();
}

// All jobs

async function jobsPage(signal) {
  const { items } = await ask("/v1/jobs?limit=200");
  if (signal.aborted) return;
  if (!items.length) {
    main.replaceChildren(el("h1", {}, "No jobs yet"), el("p", {}, el("a", { href: "#/new" }, "Score a run"), ", here or from a terminal, and it shows up on this page:"), el("pre", {}, `premem score train.jsonl checkpoint-* --service ${location.origin}`));
  } else {
    const head = el("tr", {}, ...["Job", "State", "Done"].map((name) => el("th", { scope: "col" }, name)), ...Object.entries(TIMES).map(([name, title]) => el("th", { scope: "col", class: "number", title }, name)));
    const body = el("tbody");
    main.replaceChildren(el("h1", {}, "Jobs"), el("p", {}, el("a", { href: "#/new" }, "Score a run"), " · ", el("a", { href: "#/calibrations" }, "Calibrations")), el("div", { class: "card" }, el("table", {}, el("thead", {}, head), body)));
    let followed = 0;
    for (const job of items) {
      const line = el("tr");
      const fill = (seen) => line.replaceChildren(el("td", {}, el("a", { href: `#/jobs/${seen.id}` }, seen.name || seen.id)), el("td", {}, seen.state), el("td", {}, progress(seen), done(seen)), ...[left(seen), spent(seen)].map((text) => el("td", { class: "number" }, text)));
      fill(job);
      body.append(line);
      if (!ENDED.includes(job.state) && followed++ < 4) follow(job.id, fill, signal); // a browser opens six connections
    }
  }
}
const TIMES = { "Time left": "Estimated from the tasks done so far", "Engine time": "What it has cost: the time in which an engine had work for it, over all workers" };
const progress = ({ state, counts: { tasks } }) => (ENDED.includes(state) ? "" : el("progress", { value: tasks.completed, max: Math.max(tasks.total, 1), "aria-label": "Tasks done" }));
const done = (job) => `${job.counts.tasks.completed} of ${job.counts.tasks.total} tasks`;
const left = (job) => (ENDED.includes(job.state) || job.seconds_left === null ? "–" : duration(job.seconds_left));
const spent = ({ counts }) => (counts.engine_seconds ? duration(counts.engine_seconds) : "–");

// Server-Sent Events by fetch, because an EventSource cannot show a key.
async function follow(id, told, signal) {
  try {
    const reader = (await ask(`/v1/jobs/${encodeURIComponent(id)}/events`, "stream")).pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done: over, value } = await reader.read();
      if (over || signal.aborted) return;
      text = (text + value).replaceAll("\r\n", "\n");
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) {
        const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
        if (data) told(JSON.parse(data));
      }
    }
  } catch (error) {
    if (!signal.aborted) console.warn(error.message);
  }
}

// One job

async function jobPage(id, signal) {
  const path = `/v1/jobs/${encodeURIComponent(id)}`, job = await ask(path);
  const facts = el("div", { class: "facts" }), warnings = el("div"), rest = el("div");
  main.replaceChildren(el("a", { href: "#/" }, "All jobs"), el("h1", {}, job.name || job.id), facts, warnings, rest);
  const fill = (seen) => {
    const fact = (value, name, title) => el("div", { title }, el("b", {}, value), el("span", { class: "quiet" }, name));
    facts.replaceChildren(
      fact(seen.state, "state", "Where the job stands"), fact(done(seen), "done", "One task is some examples at one checkpoint"),
      fact(left(seen), "left", TIMES["Time left"]),
      fact(seen.counts.samples.toLocaleString("en"), "answers", "Sampled and graded"),
      ...(seen.counts.samples_saved ? [fact(seen.counts.samples_saved.toLocaleString("en"), "answers saved", `They cannot change a score; about ${seen.counts.tokens_saved.toLocaleString("en")} tokens`)] : []),
      fact(spent(seen), "engine time", TIMES["Engine time"]),
      fact(seen.tokens_per_second === null ? "–" : `${Math.round(seen.tokens_per_second).toLocaleString("en")}/s`, "tokens", "Scored and sampled, per second of each engine while it had work"));
    warnings.replaceChildren(...[...seen.errors, ...seen.warnings].map((text) => el("p", { class: "warn" }, text)));
  };
  fill(job);
  if (job.state === "completed" && job.kind !== "acquire") return results(path, id, rest, signal);
  rest.replaceChildren(el("p", { class: "quiet" }, next(job)));
  if (!ENDED.includes(job.state)) follow(id, (seen) => { fill(seen); if (ENDED.includes(seen.state)) show(); }, signal);
}

function next(job) {
  if (job.state === "failed") return "The job failed for the reasons above. Mend them and post it again.";
  if (job.state === "cancelled") return "The job was cancelled. Post it again to have it scored.";
  if (job.kind === "acquire") return "This job finds candidates; premem candidates lists them.";
  return "Scores are shown here once all tasks are done. Workers: premem worker.";
}

async function results(path, id, rest, signal) {
  const [report, buffer] = await Promise.all([ask(`${path}/report`), ask(`${path}/matrix`, "arrayBuffer")]);
  if (signal.aborted) return;
  const matrix = decode(buffer), names = report.checkpoints.map((line) => line.checkpoint);
  const asked = report.threshold.memorized_below;
  const map = el("canvas", { class: "map", tabindex: "0", role: "img", "aria-label": "Heatmap of examples by checkpoints. Arrow keys move, Enter opens the example." });
  const told = el("p", { class: "hover", id: "hover" }, "Hover for values; click opens the example.");
  const slider = el("input", { type: "range", id: "threshold", min: "1.005", max: Math.max(3, asked * 1.5).toFixed(3), step: "0.001", value: asked, ...(matrix.whole ? {} : { disabled: "" }) });
  const value = el("output", { for: "threshold", id: "below" }), now = el("b", { id: "score" }), curves = el("div", { id: "curves" });
  const bars = el("canvas", { class: "bars", role: "img", "aria-label": "Histogram of pre-memorization accuracies" });
  rest.replaceChildren(
    el("p", { class: "go" }, el("a", { href: `#/jobs/${id}/examples` }, "Read and tag the ranked examples"), el("a", { href: `#/jobs/${id}/curate` }, "Choose what to train on next")),
    el("section", { class: "card" }, el("h2", {}, el("label", { for: "threshold" }, "Memorized below perplexity "), value), slider,
      el("p", { class: "quiet" }, "Mean pre-memorization accuracy, the best accuracy while not memorized, capped by accuracy now: ", now),
      ...(matrix.whole ? [] : [el("p", { class: "quiet", id: "fixed" }, "Only the answers that the scores need under this threshold were drawn: score with the trajectory “everything” to move it.")])),
    el("section", { class: "card" }, el("h2", {}, `${matrix.E.toLocaleString("en")} examples × ${matrix.C} checkpoints, the lowest score on top`), map,
      el("div", { class: "names" }, ...names.map((name) => el("span", { title: name }, name))), told,
      el("p", { class: "quiet" }, "Ochre: never right; blue: always right; dark: the reference is known by heart; grey: not every answer was drawn.")),
    el("div", { class: "two" }, el("section", { class: "card" }, el("h2", {}, "Over checkpoints"), curves),
      el("section", { class: "card" }, el("h2", {}, "Scores"), bars, el("div", { class: "ends" }, el("span", {}, "0"), el("span", {}, "examples by pre-memorization accuracy"), el("span", {}, "1")), ...lowTraits(report))));
  let ranked, scores, at = { place: 0, c: 0 };
  const redraw = () => {
    const below = Number(slider.value);
    scores = preMemorizationAccuracies(matrix, below);
    ranked = order(scores, matrix.C, matrix.E);
    value.textContent = below.toFixed(3);
    now.textContent = share(mean(scores, (matrix.C - 1) * matrix.E, matrix.C * matrix.E));
    const started = performance.now();
    paint(map, matrix, ranked);
    map.dataset.milliseconds = (performance.now() - started).toFixed(1);
    histogram(bars, scores.subarray((matrix.C - 1) * matrix.E));
    plot(curves, matrix, report, scores, below);
  };
  const tell = () => {
    const e = ranked[at.place], i = at.c * matrix.E + e, accuracy = matrix.accuracy[i];
    told.textContent = `row ${matrix.row[e]}, ${names[at.c]}: accuracy ${Number.isNaN(accuracy) ? "not drawn" : share(accuracy)}, perplexity ${share(matrix.perplexity[i])}, score ${share(scores[(matrix.C - 1) * matrix.E + e])}`;
  };
  const open = () => { location.hash = `#/jobs/${id}/examples/${matrix.row[ranked[at.place]]}`; };
  let waiting = 0;
  slider.addEventListener("input", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(redraw); });
  map.addEventListener("mousemove", (event) => { at = placeAt(map, event, matrix); tell(); });
  map.addEventListener("click", (event) => { at = placeAt(map, event, matrix); open(); });
  map.addEventListener("keydown", (event) => {
    const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] || [0, 0];
    if (event.key === "Enter") open();
    if (!down && !right) return;
    event.preventDefault();
    at = { place: Math.min(Math.max(at.place + down, 0), matrix.E - 1), c: Math.min(Math.max(at.c + right, 0), matrix.C - 1) };
    tell();
  });
  redraw();
}

function lowTraits(report) {
  if (!report.low) return [];
  const lines = report.low.traits.slice(0, 5).map((trait) => el("li", {}, `${trait.name}: ${trait.chosen.toFixed(2)} against ${trait.rest.toFixed(2)} in the rest`));
  return [el("h2", {}, `What the ${report.low.examples} under ${report.low.below} have in common`), lines.length ? el("ul", {}, ...lines) : el("p", { class: "quiet" }, "Nothing that stands out.")];
}

function histogram(canvas, last) {
  const bins = new Array(20).fill(0);
  for (const score of last) if (!Number.isNaN(score)) bins[Math.min(19, Math.floor(score * 20))]++;
  const most = Math.max(...bins, 1);
  canvas.width = 600; canvas.height = 150;
  const context = canvas.getContext("2d");
  context.fillStyle = color("--accent");
  bins.forEach((n, at) => context.fillRect(at * 30 + 2, 150 - (n / most) * 142, 26, (n / most) * 142));
}

function plot(into, matrix, report, scores, below) {
  const { C, E, accuracy, perplexity } = matrix, over = (values) => Array.from({ length: C }, (_, c) => mean(values, c * E, (c + 1) * E));
  const known = perplexity.map((p) => (Number.isNaN(p) ? NaN : Number(p < below)));
  const lines = [["accuracy", over(accuracy), "#2f7fc2"], ["memorized", over(known), "#8a8a8a"], ["pre-memorization", over(scores), "#c2571a"]];
  if (report.checkpoints.some((line) => line.test_accuracy !== null)) lines.push(["test accuracy", report.checkpoints.map((line) => line.test_accuracy), "#3d9a5f"]);
  const forecast = (part) => report.checkpoints.map((line) => (line.forecast === null ? null : line.forecast[part]));
  if (report.checkpoints.some((line) => line.forecast)) lines.push(["forecast", forecast("accuracy"), "#8e5bb5"], ["forecast, low", forecast("low"), "#c9b3dc"], ["forecast, high", forecast("high"), "#c9b3dc"]);
  const axis = { stroke: color("--quiet"), grid: { stroke: color("--line") } };
  into.replaceChildren();
  new uPlot({
    width: Math.max(280, into.clientWidth), height: 240, scales: { x: { time: false }, y: { range: [0, 1] } },
    axes: [{ ...axis, values: (_, marks) => marks.map((mark) => (Number.isInteger(mark) ? mark : "")) }, axis],
    series: [{ label: "checkpoint" }, ...lines.map(([label, , stroke]) => ({ label, stroke, width: 2, points: { show: true } }))],
  }, [Array.from({ length: C }, (_, c) => c + 1), ...lines.map(([, values]) => values.map((v) => (Number.isNaN(v) ? null : v)))], into);
}

addEventListener("hashchange", show);
show();
