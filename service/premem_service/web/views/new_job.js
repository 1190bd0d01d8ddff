// Upload a data set, look at what the model will be asked, see what scoring takes, and start it.
import { estimate, getDatasets, getPreview, postJob, upload } from "../api.js";
import { count, el, main, options } from "../dom.js";
import { jobAddress, toAllJobs } from "../parts/links.js";
import { showPreview } from "../parts/preview.js";
import { attempt, problemLine } from "../parts/problem.js";

/** @import { Between, Dataset, Estimate, JobRequest } from "../types.d.ts" */

const PREVIEW_ROWS = "3";

/** @type {[value: string, text: string][]} */
const TRAJECTORIES = [
  ["", "as the job needs"],
  ["final", "final: only what can change the scores"],
  ["full", "full: what every checkpoint's scores need"],
  ["everything", "everything"],
];

/** @param {AbortSignal} signal */
export async function newJobView(signal) {
  const { items } = await getDatasets();
  if (signal.aborted) return;
  new NewJob(items, signal).show();
}

class NewJob {
  #status = el("p", { role: "status", class: "quiet" });
  #problem = problemLine();
  #preview = el("div", { id: "preview" });
  #cost = el("div", { id: "cost" });

  #dataset;
  #test;
  #file = el("input", { type: "file", id: "file", accept: ".jsonl,.json,.ndjson,.csv,.parquet,.arrow,.gz,.zst" });
  #grader = el("input", { id: "grader", placeholder: "by the data", size: 12 });
  #chat = el("input", { id: "chat", type: "checkbox" });
  #checkpoints = el("textarea", {
    id: "checkpoints",
    rows: 5,
    cols: 60,
    placeholder: "/runs/mine/checkpoint-100\n/runs/mine/checkpoint-200",
  });
  #samples = el("input", { id: "samples", type: "number", min: 1, max: 1000, value: 5 });
  #below = el("input", { id: "memorized-below", size: 12, placeholder: "1.1055" });
  #trajectory = el("select", { id: "trajectory" }, ...options(TRAJECTORIES));
  #estimate = el("button", { type: "button", id: "estimate" }, "What will it take?");

  /** Counts previews, so that one that comes late does not replace a newer one. */
  #previews = 0;

  /**
   * @param {Dataset[]} datasets
   * @param {AbortSignal} signal
   */
  constructor(datasets, signal) {
    this.signal = signal;
    this.#dataset = el("select", { id: "dataset" }, ...options([["", "Choose a data set"]]), ...datasets.map(option));
    this.#test = el("select", { id: "test" }, ...options([["", "None"]]), ...datasets.map(option));
    this.#file.addEventListener("change", () => this.#try(() => this.#upload()));
    for (const field of [this.#dataset, this.#chat, this.#checkpoints]) {
      field.addEventListener("change", () => this.#try(() => this.#look()));
    }
    this.#estimate.addEventListener("click", () =>
      this.#try(async () => this.#cost.replaceChildren(...costOf(await estimate(this.#request())))),
    );
  }

  show() {
    const form = el(
      "form",
      {},
      this.#dataCard(),
      this.#runCard(),
      this.#status,
      this.#problem,
      this.#cost,
      this.#estimate,
      " ",
      el("button", { id: "start" }, "Start"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#try(async () => {
        const job = await postJob(this.#request());
        location.hash = jobAddress(job.id);
      });
    });
    main.replaceChildren(toAllJobs(), el("h1", {}, "Score a run"), form);
  }

  #dataCard() {
    return el(
      "section",
      { class: "card" },
      el("h2", {}, "Data"),
      field("Uploaded before", this.#dataset),
      field("Or a file", this.#file, "JSONL, JSON, CSV, Parquet or Arrow, also compressed"),
      field("Grader", this.#grader, "gsm8k, math, exact, choice, regex, …; empty: chosen by the references"),
      field("Trained as a chat", this.#chat, "asked through the chat template of the checkpoints' tokenizer"),
      this.#preview,
    );
  }

  #runCard() {
    return el(
      "section",
      { class: "card" },
      el("h2", {}, "Run"),
      field("Checkpoints, one per line", this.#checkpoints, "Folders that the workers can read"),
      field("Answers per example and checkpoint", this.#samples),
      field(
        "Memorized below perplexity",
        this.#below,
        "or gsm8k-llama3, math-llama3; empty: from the first checkpoint",
      ),
      field("How much is drawn", this.#trajectory),
      field("Test set", this.#test),
    );
  }

  /** @param {() => Promise<void>} work */
  async #try(work) {
    await attempt(this.#problem, this.signal, work);
    this.#status.textContent = "";
  }

  async #upload() {
    const [file] = this.#file.files ?? [];
    if (!file) return;
    this.#status.textContent = `Sending ${file.name} and grading its references …`;
    const dataset = await upload(file, this.#grader.value.trim());
    if (![...this.#dataset.options].some(({ value }) => value === dataset.id)) {
      this.#dataset.append(option(dataset));
      this.#test.append(option(dataset));
    }
    this.#dataset.value = dataset.id;
    await this.#look();
  }

  /** Shows the first rows of the data set that is chosen. */
  async #look() {
    const turn = ++this.#previews;
    if (!this.#dataset.value) {
      this.#preview.replaceChildren();
      return;
    }
    const query = new URLSearchParams({ rows: PREVIEW_ROWS, chat: String(this.#chat.checked) });
    const [first] = this.#paths();
    if (first) query.set("checkpoint", first);
    const preview = await getPreview(this.#dataset.value, query);
    if (turn === this.#previews) showPreview(preview, this.#preview);
  }

  #paths() {
    const lines = this.#checkpoints.value.split("\n").map((line) => line.trim());
    return lines.filter((line) => line !== "");
  }

  #request() {
    const paths = this.#paths();
    if (!this.#dataset.value) throw new Error("Choose a data set, or upload one.");
    if (!paths.length) {
      throw new Error("Name the run's checkpoints, one per line, in the order in which they were saved.");
    }
    /** @type {JobRequest} */
    const request = {
      dataset: this.#dataset.value,
      checkpoints: paths.map((path) => ({ path })),
      sampling: { samples: Number(this.#samples.value) },
    };
    const below = this.#below.value.trim();
    if (this.#chat.checked) request.template = { chat: true };
    if (below) request.memorized_below = Number.isNaN(Number(below)) ? below : Number(below);
    if (this.#test.value) request.test_dataset = this.#test.value;
    if (this.#trajectory.value) request.trajectory = this.#trajectory.value;
    return request;
  }
}

/** @param {Dataset} dataset */
const option = ({ id, name, rows }) => el("option", { value: id }, `${name || id}, ${count(rows)} rows`);

/**
 * @param {string} name
 * @param {HTMLElement} input
 * @param {string} [help]
 */
const field = (name, input, help) =>
  el(
    "p",
    {},
    el("label", { for: input.id }, name),
    el("br"),
    input,
    ...(help ? [el("span", { class: "quiet" }, " ", help)] : []),
  );

/** @param {Estimate} estimate */
function costOf({ examples, checkpoints, scored_tokens, answers, seconds, workers, notes }) {
  const time = seconds ? `${between(seconds)} s` : "time unknown";
  return [
    el(
      "p",
      {},
      `${count(examples)} examples at ${checkpoints} checkpoints: about ` +
        `${count(Math.round(scored_tokens))} tokens to score, ` +
        `${between(answers)} answers to sample, ${time} with ${workers} workers.`,
    ),
    ...notes.map((note) => el("p", { class: "quiet" }, note)),
  ];
}

/** @param {Between} amount */
const between = ({ low, high }) => [...new Set([low, high].map((n) => count(Math.round(n))))].join(" to ");
