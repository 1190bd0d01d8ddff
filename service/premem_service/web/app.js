// The router: draws the view that the address asks for, and asks for a key where the service needs one.
import { NeedsKey, leave, storeKey } from "./api.js";
import { el, main } from "./dom.js";
import { messageOf } from "./parts/problem.js";
import { calibrationsView } from "./views/calibrations.js";
import { curateView } from "./views/curate.js";
import { exampleView } from "./views/example.js";
import { examplesView } from "./views/examples.js";
import { jobView } from "./views/job.js";
import { jobsView } from "./views/jobs.js";
import { newJobView } from "./views/new_job.js";

async function show() {
  const signal = leave();
  try {
    await view(signal);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof NeedsKey) askForKey();
    else showProblem(error);
  }
}

/**
 * Addresses are #/, #/new, #/calibrations, #/jobs/ID, #/jobs/ID/examples?…, #/jobs/ID/examples/ROW and
 * #/jobs/ID/curate.
 *
 * @param {AbortSignal} signal Aborted when the view is left.
 */
function view(signal) {
  const [path, query] = location.hash.split("?");
  const [, noun, job, part, row] = path.split("/");
  if (noun === "new") return newJobView(signal);
  if (noun === "calibrations") return calibrationsView(signal);
  if (noun !== "jobs") return jobsView(signal);
  if (row !== undefined) return exampleView(job, Number(row), signal);
  if (part === "examples") return examplesView(job, new URLSearchParams(query), signal);
  if (part === "curate") return curateView(job, signal);
  return jobView(job, signal, show);
}

function askForKey() {
  const field = el("input", { type: "password", id: "key", autocomplete: "off" });
  const form = el(
    "form",
    { class: "card" },
    el("h1", {}, "This service needs a key"),
    el("p", {}, el("label", { for: "key" }, "Key (pmk_…), kept until this tab is closed")),
    field,
    " ",
    el("button", {}, "Continue"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    storeKey(field.value.trim());
    show();
  });
  main.replaceChildren(form);
  field.focus();
}

/** @param {unknown} error */
function showProblem(error) {
  main.replaceChildren(
    el("h1", {}, "That did not work"),
    el("p", { class: "warn", role: "alert" }, messageOf(error)),
    el("a", { href: "#/" }, "Back to all jobs"),
  );
}

addEventListener("hashchange", show);
show();
