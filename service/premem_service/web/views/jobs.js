// All jobs, the newest first.
import { ended, follow, getJobs } from "../api.js";
import { el, main } from "../dom.js";
import { jobAddress } from "../parts/links.js";
import { ENGINE_TIME, TIME_LEFT, engineTime, progressBar, tasksDone, timeLeft } from "../parts/progress.js";

/** @import { Job } from "../types.d.ts" */

const MOST_FOLLOWED = 4; // a browser opens six connections

/** @param {AbortSignal} signal */
export async function jobsView(signal) {
  const { items } = await getJobs();
  if (signal.aborted) return;
  if (items.length) showJobs(items, signal);
  else showNone();
}

const toNewJob = () => el("a", { href: "#/new" }, "Score a run");

function showNone() {
  main.replaceChildren(
    el("h1", {}, "No jobs yet"),
    el("p", {}, toNewJob(), ", here or from a terminal, and it shows up on this page:"),
    el("pre", {}, `premem score train.jsonl checkpoint-* --service ${location.origin}`),
  );
}

/**
 * @param {Job[]} jobs
 * @param {AbortSignal} signal
 */
function showJobs(jobs, signal) {
  const head = el(
    "tr",
    {},
    ...["Job", "State", "Done"].map((name) => el("th", { scope: "col" }, name)),
    el("th", { scope: "col", class: "number", title: TIME_LEFT }, "Time left"),
    el("th", { scope: "col", class: "number", title: ENGINE_TIME }, "Engine time"),
  );
  const rows = jobs.map((job) => {
    const row = el("tr");
    fill(row, job);
    return row;
  });
  main.replaceChildren(
    el("h1", {}, "Jobs"),
    el("p", {}, toNewJob(), " · ", el("a", { href: "#/calibrations" }, "Calibrations")),
    el("div", { class: "card scrolls" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows))),
  );
  const running = [...jobs.entries()].filter(([, job]) => !ended(job));
  for (const [at, { id }] of running.slice(0, MOST_FOLLOWED)) follow(id, (job) => fill(rows[at], job), signal);
}

/**
 * @param {HTMLTableRowElement} row
 * @param {Job} job
 */
function fill(row, job) {
  row.replaceChildren(
    el("td", {}, el("a", { href: jobAddress(job.id) }, job.name || job.id)),
    el("td", {}, job.state),
    el("td", {}, progressBar(job), tasksDone(job)),
    el("td", { class: "number" }, timeLeft(job)),
    el("td", { class: "number" }, engineTime(job)),
  );
}
