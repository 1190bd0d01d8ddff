// One job: where it stands, and its results once they are there.
import { ended, follow, getJob } from "../api.js";
import { count, el, main } from "../dom.js";
import { fact } from "../parts/facts.js";
import { toAllJobs } from "../parts/links.js";
import { ENGINE_TIME, TIME_LEFT, engineTime, tasksDone, timeLeft } from "../parts/progress.js";
import { showResults } from "./results.js";

/** @import { Job } from "../types.d.ts" */

/**
 * @param {string} id
 * @param {AbortSignal} signal
 * @param {() => void} reload Shows the view anew, once the job has ended.
 */
export async function jobView(id, signal, reload) {
  const job = await getJob(id);
  const facts = el("div", { class: "facts" });
  const warnings = el("div");
  const rest = el("div");
  main.replaceChildren(toAllJobs(), el("h1", {}, job.name || job.id), facts, warnings, rest);
  /** @param {Job} job */
  const fill = (job) => {
    facts.replaceChildren(...factsOf(job));
    warnings.replaceChildren(...[...job.errors, ...job.warnings].map((text) => el("p", { class: "warn" }, text)));
  };
  fill(job);
  if (job.state === "completed" && job.kind !== "acquire") {
    await showResults(id, rest, signal);
    return;
  }
  rest.replaceChildren(el("p", { class: "quiet" }, nextStep(job)));
  if (ended(job)) return;
  /** @param {Job} job */
  const onChange = (job) => {
    fill(job);
    if (ended(job)) reload();
  };
  follow(id, onChange, signal);
}

/** @param {Job} job */
function factsOf(job) {
  const { samples, samples_saved, tokens_saved } = job.counts;
  const saved = `Not drawn, because they cannot change a score: about ${count(tokens_saved)} tokens`;
  const pace = "Scored and sampled per second of each engine's working time";
  return [
    fact(job.state, "state", { title: "Where the job stands" }),
    fact(tasksDone(job), "done", { title: "One task is some examples at one checkpoint" }),
    fact(timeLeft(job), "time left", { title: TIME_LEFT }),
    fact(count(samples), "answers", { title: "Sampled and graded" }),
    ...(samples_saved ? [fact(count(samples_saved), "answers saved", { title: saved })] : []),
    fact(engineTime(job), "engine time", { title: ENGINE_TIME }),
    fact(job.tokens_per_second === null ? "–" : `${count(Math.round(job.tokens_per_second))}/s`, "tokens", {
      title: pace,
    }),
  ];
}

/** @param {Job} job */
function nextStep({ state, kind }) {
  if (state === "failed") return "The job failed for the reasons above. Fix them and start it again.";
  if (state === "cancelled") return "The job was cancelled. Start it again to have it scored.";
  if (kind === "acquire") return "This job finds candidates; premem candidates lists them.";
  return "Scores are shown here once all tasks are done. Start a worker with premem worker.";
}
