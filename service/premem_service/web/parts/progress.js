// How far a job is, and what it has cost, in the list of jobs and on the page of one.
import { ended } from "../api.js";
import { duration, el } from "../dom.js";

/** @import { Job } from "../types.d.ts" */

export const TIME_LEFT = "Estimated from the tasks done so far";
export const ENGINE_TIME = "What the job has cost: the time during which engines worked on it, over all workers";

/** @param {Job} job */
export function progressBar(job) {
  if (ended(job)) return "";
  const { completed, total } = job.counts.tasks;
  return el("progress", { value: completed, max: Math.max(total, 1), "aria-label": "Tasks done" });
}

/** @param {Job} job */
export const tasksDone = ({ counts: { tasks } }) => `${tasks.completed} of ${tasks.total} tasks`;

/** @param {Job} job */
export const timeLeft = (job) => (ended(job) || job.seconds_left === null ? "–" : duration(job.seconds_left));

/** @param {Job} job */
export const engineTime = ({ counts }) => (counts.engine_seconds ? duration(counts.engine_seconds) : "–");
