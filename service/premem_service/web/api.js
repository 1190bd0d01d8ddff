// Requests to the service: each route that the page uses once, with the reader's key, until the view is left.

/**
 * @import {
 *   CalibrationReply, Dataset, Estimate, ExampleDetail, ExamplePage, Job, JobReport, JobRequest, JobState, Overlap,
 *   Page, Preview, Selection, TagCounts,
 * } from "./types.d.ts"
 */

/** @type {JobState[]} */
const ENDED = ["completed", "failed", "cancelled"];
const KEY = "premem-key";

let leaving = new AbortController();

/** Ends the requests of the view before, and returns the signal of the one that comes. */
export function leave() {
  leaving.abort();
  leaving = new AbortController();
  return leaving.signal;
}

export class NeedsKey extends Error {}

export const storedKey = () => sessionStorage.getItem(KEY);

/** @param {string} key Kept until the tab is closed. */
export const storeKey = (key) => sessionStorage.setItem(KEY, key);

/**
 * @param {string} path
 * @param {RequestInit & { headers?: Record<string, string> }} [options]
 */
async function request(path, { headers, ...options } = {}) {
  const key = storedKey();
  const answer = await fetch(path, {
    signal: leaving.signal,
    ...options,
    headers: { ...headers, ...(key && { Authorization: `Bearer ${key}` }) },
  });
  if (answer.status === 401) throw new NeedsKey();
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail || `${path} answered ${answer.status}`);
  }
  return answer;
}

/**
 * @param {Parameters<typeof request>} args
 * @returns {Promise<any>} JSON; each function below says what it holds.
 */
const ask = async (...args) => (await request(...args)).json();

/**
 * @param {string} method
 * @param {unknown} body
 */
const json = (method, body) => ({
  method,
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

/** @param {string} id */
const jobPath = (id) => `/v1/jobs/${encodeURIComponent(id)}`;

/** @param {string} id */
const datasetPath = (id) => `/v1/datasets/${encodeURIComponent(id)}`;

// Jobs

/** @param {Job} job */
export const ended = (job) => ENDED.includes(job.state);

/** @returns {Promise<Page<Job>>} */
export const getJobs = () => ask("/v1/jobs?limit=200");

/**
 * @param {string} id
 * @returns {Promise<Job>}
 */
export const getJob = (id) => ask(jobPath(id));

/**
 * @param {JobRequest} job
 * @returns {Promise<Job>}
 */
export const postJob = (job) => ask("/v1/jobs", json("POST", job));

/**
 * @param {JobRequest} job
 * @returns {Promise<Estimate>}
 */
export const estimate = (job) => ask("/v1/jobs?dry_run=true", json("POST", job));

/**
 * @param {string} id
 * @returns {Promise<JobReport>}
 */
export const getReport = (id) => ask(`${jobPath(id)}/report`);

/** @param {string} id */
export const getMatrix = async (id) => (await request(`${jobPath(id)}/matrix`)).arrayBuffer();

/**
 * Calls `onChange` with the job each time that something about it changes. These are Server-Sent Events, read by fetch
 * because an EventSource cannot show a key.
 *
 * @param {string} id
 * @param {(job: Job) => void} onChange
 * @param {AbortSignal} signal
 */
export async function follow(id, onChange, signal) {
  try {
    const { body } = await request(`${jobPath(id)}/events`);
    if (!body) return;
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return;
      const events = (text + value).replaceAll("\r\n", "\n").split("\n\n");
      text = events.pop() ?? "";
      for (const data of events.map(dataOf)) if (data) onChange(JSON.parse(data));
    }
  } catch (error) {
    if (!signal.aborted) console.warn(error);
  }
}

/** @param {string} event */
function dataOf(event) {
  const lines = event.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice("data:".length)).join("\n");
}

// Scored examples

/**
 * @param {string} job
 * @param {URLSearchParams} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<ExamplePage>}
 */
export const getExamples = (job, query, signal = leaving.signal) =>
  ask(`${jobPath(job)}/examples?${query}`, { signal });

/**
 * @param {string} job
 * @param {number} row
 * @returns {Promise<ExampleDetail>}
 */
export const getExample = (job, row) => ask(`${jobPath(job)}/examples/${row}`);

// Choices

/**
 * @param {string} job
 * @param {URLSearchParams} query
 * @param {AbortSignal} signal
 * @returns {Promise<Selection>}
 */
export const getSelection = (job, query, signal) => ask(`${jobPath(job)}/selection?${query}`, { signal });

/**
 * @param {string} job
 * @param {URLSearchParams} query
 * @param {AbortSignal} signal
 * @returns {Promise<Overlap>}
 */
export const getOverlap = (job, query, signal) => ask(`${jobPath(job)}/overlap?${query}`, { signal });

/**
 * @param {string} job
 * @param {URLSearchParams} query
 */
export const curatedPath = (job, query) => `${jobPath(job)}/curated?${query}`;

/** @param {string} path */
export const download = async (path) => (await request(path)).blob();

// Data sets

/** @returns {Promise<Page<Dataset>>} */
export const getDatasets = () => ask("/v1/datasets?limit=200");

/**
 * @param {File} file
 * @param {string} grader
 * @returns {Promise<Dataset>}
 */
export function upload(file, grader) {
  const type = file.name.endsWith(".csv") ? "text/csv" : "application/octet-stream";
  const query = new URLSearchParams({ name: file.name, ...(grader ? { grader } : {}) });
  return ask(`/v1/datasets?${query}`, { method: "POST", headers: { "Content-Type": type }, body: file });
}

/**
 * @param {string} dataset
 * @param {URLSearchParams} query
 * @returns {Promise<Preview>}
 */
export const getPreview = (dataset, query) => ask(`${datasetPath(dataset)}/preview?${query}`);

/**
 * @param {string} dataset
 * @returns {Promise<TagCounts>}
 */
export const getTags = (dataset) => ask(`${datasetPath(dataset)}/tags`);

/**
 * @param {string} dataset
 * @param {string} tag
 * @param {number} row
 * @param {boolean} on
 */
export function putTag(dataset, tag, row, on) {
  const path = `${datasetPath(dataset)}/tags/${encodeURIComponent(tag)}/rows`;
  return on ? ask(path, json("PUT", { rows: [row] })) : ask(`${path}?row=${row}`, { method: "DELETE" });
}

// Calibrations

/** @returns {Promise<Page<CalibrationReply>>} */
export const getCalibrations = () => ask("/v1/calibrations?limit=100");
